"""What a run's step and its products cost by themselves, measured after the run.

A run's own clock also sees what it logs, a gradient of the full loss a line. Steps here
lie between two lines and two refreshes: a longer chunk less a shorter one.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments import measurements, optimizers, records, train
from experiments.programs import programs
from experiments.steps import Branch
from experiments.tasks import Task, make_task

PART = "unit costs"
"""The branch of the line that holds them."""

_NEVER = 10**9
_REPEATS = 5


def train_and_time(config: ml_collections.ConfigDict, workdir: str) -> Mapping:
    """Train as `train.run`, and add a line with the seconds of steps and products."""
    status = train.run(config, workdir)
    if status["status"] == "interrupted" or is_timed(workdir):
        return status
    records.append_metrics(
        workdir, {"branch": PART, "seed": config.seed, "step": 0, **unit_costs(config)}
    )
    return status


def is_timed(workdir: str | Path) -> bool:
    """Return whether a run's costs have been measured."""
    return any(line["branch"] == PART for line in records.read_metrics(workdir))


def unit_costs(config: ml_collections.ConfigDict) -> dict[str, float]:
    """Return the seconds of a plain step, of one of the mode's, and of a product.

    The mode is the first one of `modes`. Times are medians.
    """
    task = make_task(config.task, config.subspace.num_examples)
    mode = config.modes[0]
    step = _stepper(config, task)
    product = _product(config, task)
    weights = {"plain": (1.0, 1.0), mode: optimizers.projection_weights(config, mode)}
    seconds = {
        f"seconds/{name}_step": _per_call(functools.partial(step, of_mode), 50)
        for name, of_mode in weights.items()
    }
    costs = {**seconds, "seconds/product": _per_call(product, 3)}
    if min(costs.values()) <= 0:
        raise RuntimeError(f"a time that cannot be: {costs}; is the machine busy?")
    return costs


def _per_call(run: Callable[[int], Any], num: int) -> float:
    """Return the median seconds of one of `num` calls, start and end not counted."""
    jax.block_until_ready(run(1))
    found = []
    for _ in range(_REPEATS):
        times = []
        for size in (num, 2 * num):
            start = time.perf_counter()
            jax.block_until_ready(run(size))
            times.append(time.perf_counter() - start)
        found.append((times[1] - times[0]) / num)
    return statistics.median(found)


def _stepper(
    config: ml_collections.ConfigDict, task: Task
) -> Callable[[tuple[float, float], int], Any]:
    """Return a chunk of so many steps with weights, after the first refresh."""
    config = config.copy_and_resolve_references()
    # A basis of updates has k directions after k steps.
    config.switch.step = num_before = max(config.subspace.k, 1)
    config.subspace.refresh_every = _NEVER
    made = programs(config, task)
    state = jax.jit(made.initial_state)()
    nothing = {name: np.bool_(False) for name in measurements.chosen(config)}

    # At a rate of 0 a step costs the same, and nothing can diverge.
    nowhere = optimizers.Rates(jnp.float32(0), jnp.float32(1))

    def branch(dom: float, bulk: float, is_warmup: bool) -> Branch:
        weights = jnp.float32(dom), jnp.float32(bulk)
        last = jnp.int32(_NEVER)
        return Branch(*weights, jnp.asarray(is_warmup), last, rates=nowhere)

    def arguments(num: int, of_branch: Branch) -> tuple:
        return state, of_branch, np.int32(num), nothing, task.train, task.test

    before = arguments(num_before, branch(1, 1, True))
    chunk = made.compile_chunk(*before)
    state, _ = chunk(*before)

    def run(weights: tuple[float, float], num_steps: int) -> Any:
        nonlocal state  # its memory is given up
        state, _ = chunk(*arguments(num_steps, branch(*weights, False)))
        return state

    return run


def _product(config: ml_collections.ConfigDict, task: Task) -> Callable[[int], Any]:
    """Return so many products with the curvature that is tracked."""
    curvature = optimizers.tracked_curvature(config, task)
    state = jax.jit(programs(config, task).initial_state)()
    params = state.params
    data = optimizers.tracked_data(
        config, task, task.train, None, None, state.opt_state
    )

    @jax.jit
    def apply(params: Any, data: Any, num: Any) -> Any:
        matvec = curvature(params, data)
        # Each product waits for the one before; the sine keeps it from overflowing.
        return jax.lax.fori_loop(
            0, num, lambda _, v: jax.tree.map(jnp.sin, matvec(v)), params
        )

    return lambda num: apply(params, data, np.int32(num))
