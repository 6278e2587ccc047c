"""The compiled part of training: a chunk of steps.

A chunk starts with a measured step and ends where the next line is due. Everything that
differs between branches is an argument, so that a run compiles once.

With several seeds every leaf of the state has a leading axis, one member a seed, and
all members are trained by one vmapped program. They differ in their initial parameters,
their data order, and the step at which they switch. A member that has come to its end
stays as it is while the others go on.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from tqdm import tqdm

from dominant.pytrees import do_if
from experiments import measurements, optimizers, steps
from experiments.measurements import Metrics, Record
from experiments.passes import mean_over, scores_and_gradient
from experiments.steps import Branch, Full, TrainState
from experiments.tasks import Task

_SEEDS = "seeds"


class Programs(NamedTuple):
    """The functions of a run. Data are arguments, never constants.

    initial_state: `() -> state`.
    compile_chunk: from the arguments of a chunk to the chunk, compiled:
      `(state, branch, num_steps, due, train, test) -> (state, metrics)`. It gives up
      its state's memory. Metrics are those of the first step: a dict of one for each
      measurement; of those not `due` zeros, or none at all.
    going: `(state, branch) -> bool`, one a member: whether it has a step to take.
    """

    initial_state: Callable[[], TrainState]
    compile_chunk: Callable[..., Callable]
    going: Callable[[TrainState, Branch], jax.Array]


def programs(config: ml_collections.ConfigDict, task: Task) -> Programs:
    """Return the functions of a run; nothing is compiled yet."""
    many = config.seeds > 1

    def over_members(function: Callable, in_axes: Any) -> Callable:
        if not many:
            return function
        return jax.vmap(function, in_axes, axis_name=_SEEDS)

    axes_of_branch = Branch(None, None, None, 0)
    step = over_members(
        lambda *args: _step(config, task, *args), (0, 0, axes_of_branch, None, None)
    )
    full_pass = over_members(lambda *args: _full(config, task, *args), (0, None))
    going = over_members(steps.is_going, (0, axes_of_branch))
    checked = over_members(steps.checked, (0,))

    def take(
        name: str, record: Record, model_state: Any, memory: Any, data: tuple
    ) -> tuple[Metrics, Any]:
        """Return one measurement's metrics and memory."""
        measurement = measurements.MEASUREMENTS[name]

        def of_member(record: Record, model_state: Any, memory: Any) -> Any:
            setting = steps.setting(config, task, model_state, *data)
            return measurement.take(record, setting, memory)

        return over_members(of_member, 0)(record, model_state, memory)

    def chunk(
        start: TrainState,
        branch: Branch,
        num_steps: jax.Array,
        due: dict[str, jax.Array],
        train: Any,
        test: Any,
    ) -> tuple[TrainState, dict[str, Metrics]]:
        def unfinished(carry: tuple) -> jax.Array:
            i, state, *_ = carry
            return (i < num_steps) & jnp.any(going(state, branch))

        def measure(record: Record, operand: tuple[dict, dict]) -> tuple[dict, dict]:
            metrics, memories = map(dict, operand)
            for name in metrics:

                def one(operand: Any, name: str = name) -> Any:
                    _, memory = operand
                    return take(name, record, start.model_state, memory, (train, test))

                operand = (metrics[name], memories.get(name, ()))
                metrics[name], memory = do_if(due[name], one, operand)
                if name in memories:
                    memories[name] = memory
            return metrics, memories

        def body(carry: tuple) -> tuple:
            i, state, full, metrics = carry
            state, full, record = step(state, full, branch, i == 0, train)
            # What is measured is the first step. In this form the loop keeps one copy
            # of the params there, and changes params and memories in place.
            record = record._replace(params=start.params)
            metrics, memories = do_if(
                i == 0,
                functools.partial(measure, record),
                (metrics, state.memories),
            )
            return i + 1, state._replace(memories=memories), full, metrics

        def blank(state: TrainState, full: Full, train: Any, test: Any) -> Any:
            _, _, record = step(state, full, branch, jnp.ones((), bool), train)
            return {
                name: take(
                    name,
                    record,
                    state.model_state,
                    state.memories.get(name, ()),
                    (train, test),
                )[0]
                for name in measurements.chosen(config)
            }

        full = _zeros(full_pass, start, train)
        metrics = _zeros(blank, start, full, train, test)
        carry = (jnp.zeros_like(num_steps), start, full, metrics)
        _, state, _, metrics = jax.lax.while_loop(unfinished, body, carry)
        return checked(state), metrics

    def initial_state() -> TrainState:
        seeds = config.seed + jnp.arange(config.seeds, dtype=jnp.int32)
        make = over_members(lambda seed: steps.initial_state(config, task, seed), (0,))
        return make(seeds if many else seeds[0])

    jitted = jax.jit(chunk, donate_argnums=0)

    def compile_chunk(*arguments: Any) -> Callable:
        started = time.perf_counter()
        compiled = jitted.lower(*arguments).compile()
        seconds = time.perf_counter() - started
        tqdm.write(f"compiled in {seconds:.1f} s", file=sys.stderr)
        return compiled

    return Programs(initial_state, compile_chunk, jax.jit(going))


def _step(
    config: ml_collections.ConfigDict,
    task: Task,
    state: TrainState,
    full: Full,
    branch: Branch,
    measured: jax.Array,
    train: Any,
) -> tuple[TrainState, Full, Record]:
    """Take one member's next step; with several, leave one as it is that has ended."""
    many = config.seeds > 1
    axis_name = _SEEDS if many else None
    going = steps.is_going(state, branch)
    state = steps.with_epoch_order(config, task, state, axis_name)
    at_state = task.at(state.model_state)
    weights = steps.weights(config, branch)
    tx = optimizers.tracked_optimizer(
        config, at_state, *weights, branch.rates, axis_name=axis_name
    )
    # The full gradient costs dozens of steps: only where it is looked at.
    looked_at = measured
    if optimizers.switches_by_rule(config):
        looked_at |= branch.is_warmup
    if config.noise_free_steps:
        noise_free = steps.is_noise_free(config, state.step)
        if many:  # decided together, so that it stays a real branch
            noise_free = jax.lax.pmax(noise_free.astype(jnp.int32), axis_name) > 0
        looked_at |= noise_free
    full = do_if(looked_at, lambda _: _full(config, task, state, train), full)

    batch = steps.next_batch(config, task, state, train)

    def update(*args: Any, **extra: Any) -> tuple[Any, Any]:
        return tx.update(
            *args,
            curvature_data=steps.tracked_data(config, task, state, train, batch),
            active=going if many else None,
            **extra,
        )

    new, record = steps.take_step(
        config, at_state, state, batch, full, branch.rates, update
    )
    return (_unless(going, new, state) if many else new), full, record


def _full(
    config: ml_collections.ConfigDict, task: Task, state: TrainState, train: Any
) -> Full:
    """Return the full loss, its gradient and the scores at a member's params."""
    at_state = task.at(state.model_state)
    (loss, scores), gradient = mean_over(
        lambda data: scores_and_gradient(at_state, state.params, data),
        train,
        config.examples_at_once,
    )
    return Full(loss, gradient, scores)


def _zeros(function: Callable, *arguments: Any) -> Any:
    """Return zeros of the shapes that a function returns."""
    shapes = jax.eval_shape(function, *arguments)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _unless(going: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    """Return `new` for a member that is going; the tracker sees to its basis itself."""

    def choose(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(going, a, b), new, old)

    tracker = new.opt_state._replace(
        inner_state=choose(new.opt_state.inner_state, old.opt_state.inner_state)
    )
    kept = choose(
        new._replace(opt_state=(), memories={}), old._replace(opt_state=(), memories={})
    )
    return kept._replace(opt_state=tracker, memories=new.memories)
