"""Measure what a step inside the training engine costs beside a bare one.

    TFDS_DATA_DIR=... python -m experiments.benchmarks.engine --out=FOLDER [--quick]

The bare one is SGD in a `lax.scan`, on the same batches of MLP/MNIST-5k; the bare
projected one is handed a basis. The engine's steps lie between two logged lines and two
refreshes: a longer chunk less a shorter one, both of which start with a measured step.
Writes `engine.json` and `engine.md`; times are medians within this one run. With
--quick, a tiny problem instead.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

import dominant
from configs import quickstart
from configs.tiny_subspaces import mlp_mnist
from experiments import measurements
from experiments.programs import Programs, programs
from experiments.steps import Branch
from experiments.tasks import Task, make_task

_MODES = {"plain": (1.0, 1.0), "bulk": (0.0, 1.0)}
_NEVER = 10**9


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="experiments.benchmarks.engine")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="a tiny problem only")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.quick:
        results = measure(quickstart.get_config(), num_steps=20, repeats=2)
    else:
        results = measure(mlp_mnist.get_config(), num_steps=1000, repeats=7)
    text = json.dumps(results, indent=1)
    (args.out / "engine.json").write_text(text + "\n", encoding="utf-8")
    (args.out / "engine.md").write_text(to_markdown(results), encoding="utf-8")
    print(to_markdown(results))


def measure(
    config: ml_collections.ConfigDict, num_steps: int, repeats: int
) -> dict[str, Any]:
    """Return the seconds of a step, for each mode: bare and in the engine."""
    config.subspace.refresh_every = _NEVER
    task = make_task(config.task)
    timers = {
        (mode, where): make(config, task, *weights)
        for mode, weights in _MODES.items()
        for where, make in (("bare", _bare), ("engine", _in_engine))
    }
    seconds: dict[tuple[str, str], list[float]] = {which: [] for which in timers}
    # In turn, since a shared machine changes its pace.
    for _ in range(repeats):
        for which, run in timers.items():
            long, short = (_seconds(run, n) for n in (2 * num_steps, num_steps))
            seconds[which].append((long - short) / num_steps)
    return {
        mode: {
            where: statistics.median(seconds[mode, where])
            for where in ("bare", "engine")
        }
        for mode in _MODES
    }


def to_markdown(results: dict[str, Any]) -> str:
    """Return the results as a table."""
    lines = ["| SGD | bare, ms | in the engine, ms | ratio |", "|---|--:|--:|--:|"]
    for mode, row in results.items():
        bare, engine = 1e3 * row["bare"], 1e3 * row["engine"]
        lines.append(f"| {mode} | {bare:.3f} | {engine:.3f} | {engine / bare:.2f} |")
    return "\n".join(lines) + "\n"


def _seconds(run: Callable[[int], Any], num_steps: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run(num_steps))
    return time.perf_counter() - start


def _bare(
    config: ml_collections.ConfigDict, task: Task, dom: float, bulk: float
) -> Callable[[int], Any]:
    """Return a loop of so many steps, compiled for any number."""
    rate, batch_size = config.optimizer.learning_rate, config.batch_size
    tx = optax.sgd(rate)
    if (dom, bulk) != (1, 1):
        tx = optax.chain(tx, dominant.interpolate_project(dom, bulk))
    tx = optax.with_extra_args_support(tx)
    steps_per_epoch = task.num_train // batch_size
    params = task.init(jax.random.key(0))
    chosen = np.random.default_rng(0).permutation(task.num_train)
    chosen = chosen[: steps_per_epoch * batch_size].reshape(-1, batch_size)
    subspace = jax.jit(
        lambda params, train: dominant.top_eigenspace(
            dominant.hessian(task.loss_fn)(params, train), params, config.subspace.k
        )
    )(params, task.train)

    @jax.jit
    def loop(
        params: Any, subspace: Any, chosen: Any, train: Any, num_steps: Any
    ) -> Any:
        def step(i: Any, carry: Any) -> Any:
            params, state = carry
            indices = chosen[i % steps_per_epoch]
            batch = jax.tree.map(lambda x: x[indices], train)
            gradient = jax.grad(task.loss_fn)(params, batch)
            updates, state = tx.update(gradient, state, subspace=subspace)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, num_steps, step, (params, tx.init(params)))

    def run(num_steps: int) -> Any:
        arguments = (params, subspace, jnp.asarray(chosen), task.train)
        return loop(*arguments, np.int32(num_steps))

    jax.block_until_ready(run(1))
    return run


def _in_engine(
    config: ml_collections.ConfigDict, task: Task, dom: float, bulk: float
) -> Callable[[int], Any]:
    """Return a chunk of so many steps, after the switch and the first refresh."""
    config = config.copy_and_resolve_references()
    config.switch.update({"step": 1, "threshold": 0.95, "min_steps": 0})
    made: Programs = programs(config, task)
    state = jax.jit(made.initial_state)()
    nothing = {name: np.bool_(False) for name in measurements.chosen(config)}
    warmup, branch = (
        Branch(
            jnp.float32(d), jnp.float32(b), jnp.asarray(is_warmup), jnp.int32(_NEVER)
        )
        for d, b, is_warmup in ((1, 1, True), (dom, bulk, False))
    )
    arguments = (state, warmup, np.int32(1), nothing, task.train, task.test)
    chunk = made.compile_chunk(*arguments)
    state, _ = chunk(*arguments)

    def run(num_steps: int) -> Any:
        nonlocal state  # its memory is given up
        state, _ = chunk(
            state, branch, np.int32(num_steps), nothing, task.train, task.test
        )
        return state

    return run


if __name__ == "__main__":
    main()
