"""The compiled part of training: one step, and a chunk of steps.

A chunk starts with a measured step and ends where the next line is due. Everything that
differs between branches is an argument, so that a run compiles once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from experiments import measurements, optimizers
from experiments.measurements import Metrics
from experiments.tasks import Task

NOT_DIVERGED = -1


class TrainState(NamedTuple):
    """All that the next step depends on, and all that a checkpoint holds.

    step: int32, steps taken. order: [N] int32, this epoch's permutation of the
    examples. diverged_at: int32, the first step that met non-finite numbers, or
    NOT_DIVERGED.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    order: jax.Array
    diverged_at: jax.Array


class Programs(NamedTuple):
    """The compiled functions of a run. Data are arguments, never constants.

    chunk: `(state, branch, num_steps, train) -> (state, metrics of the first step)`.
    observe: `(state, train, test) -> metrics`, the slow ones.
    """

    chunk: Callable[..., tuple[TrainState, Metrics]]
    observe: Callable[..., Metrics]


class Branch(NamedTuple):
    """A branch as the chunk sees it: two weights, and whether to stop at the switch."""

    dom: jax.Array
    bulk: jax.Array
    is_warmup: jax.Array


def initial_state(config: ml_collections.ConfigDict, task: Task) -> TrainState:
    """Return the state before the first step."""
    params = task.init(jax.random.key(config.seed))
    tx = optimizers.tracked_optimizer(config, task, 1.0, 1.0)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        order=jnp.arange(task.num_train, dtype=jnp.int32),
        diverged_at=jnp.full((), NOT_DIVERGED, jnp.int32),
    )


def compile_programs(config: ml_collections.ConfigDict, task: Task) -> Programs:
    """Return the jitted functions of a run; nothing is traced yet."""

    def step(
        state: TrainState, branch: Branch, measured: jax.Array, train: Any
    ) -> tuple[TrainState, measurements.Record]:
        state = state._replace(order=_epoch_order(config, task, state))
        batch = _next_batch(config, task, state, train)
        batch_loss, batch_gradient = jax.value_and_grad(task.loss_fn)(
            state.params, batch
        )
        # The full gradient costs dozens of steps: only where it is looked at.
        loss, gradient = jax.lax.cond(
            measured | branch.is_warmup,
            lambda: jax.value_and_grad(task.loss_fn)(state.params, train),
            lambda: (batch_loss, batch_gradient),
        )
        tx = optimizers.tracked_optimizer(config, task, branch.dom, branch.bulk)
        updates, opt_state = tx.update(
            batch_gradient,
            state.opt_state,
            state.params,
            curvature_data=train,
            gradient=gradient,
        )
        record = measurements.Record(
            params=state.params,
            loss=loss,
            gradient=gradient,
            batch_loss=batch_loss,
            batch_gradient=batch_gradient,
            tracker=opt_state,
            average=optimizers.switch_state(opt_state).average,
        )
        healthy = jnp.isfinite(batch_loss) & jnp.isfinite(optax.tree.norm(updates))
        healthy &= opt_state.failed_refreshes == 0
        return (
            state._replace(
                step=state.step + 1,
                params=optax.apply_updates(state.params, updates),
                opt_state=opt_state,
                diverged_at=jnp.where(healthy, state.diverged_at, state.step),
            ),
            record,
        )

    def chunk(
        state: TrainState, branch: Branch, num_steps: jax.Array, train: Any
    ) -> tuple[TrainState, Metrics]:
        def stopped(state: TrainState) -> jax.Array:
            engaged = optimizers.switch_state(state.opt_state).engaged
            diverged = state.diverged_at != NOT_DIVERGED
            return diverged | (branch.is_warmup & engaged)

        # Nothing large may pass through a `cond`, which would copy it at each step.
        def unfinished(carry: tuple[jax.Array, TrainState, Metrics]) -> jax.Array:
            i, state, _ = carry
            return (i < num_steps) & ~stopped(state)

        def body(
            carry: tuple[jax.Array, TrainState, Metrics],
        ) -> tuple[jax.Array, TrainState, Metrics]:
            i, state, metrics = carry
            state, record = step(state, branch, i == 0, train)
            metrics = jax.lax.cond(
                i == 0,
                lambda: measurements.measure(record, train, task),
                lambda: metrics,
            )
            return i + 1, state, metrics

        start = (jnp.zeros_like(num_steps), state, blank(state, train))
        _, state, metrics = jax.lax.while_loop(unfinished, body, start)
        return state, metrics

    def blank(state: TrainState, train: Any) -> Metrics:
        def measured(state: TrainState, train: Any) -> Metrics:
            yes = jnp.ones((), bool)
            branch = Branch(jnp.ones(()), jnp.ones(()), yes)
            return measurements.measure(step(state, branch, yes, train)[1], train, task)

        shapes = jax.eval_shape(measured, state, train)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def observe(state: TrainState, train: Any, test: Any) -> Metrics:
        return {
            **measurements.spectrum(
                state.params,
                state.opt_state.subspace,
                train,
                optimizers.curvature(config, task),
                config.subspace.tol,
            ),
            **measurements.held_out(state.params, test, task),
        }

    return Programs(jax.jit(chunk, donate_argnums=0), jax.jit(observe))


def _steps_per_epoch(config: ml_collections.ConfigDict, task: Task) -> int:
    return task.num_train // config.batch_size


def _epoch_order(
    config: ml_collections.ConfigDict, task: Task, state: TrainState
) -> jax.Array:
    """Draw a new permutation at the start of an epoch, from the seed and the epoch."""
    epoch, position = jnp.divmod(state.step, _steps_per_epoch(config, task))

    def shuffle() -> jax.Array:
        # Another stream than the initial parameters'.
        key = jax.random.fold_in(jax.random.key(config.seed), 1)
        key = jax.random.fold_in(key, epoch)
        return jax.random.permutation(key, task.num_train).astype(jnp.int32)

    return jax.lax.cond(position == 0, shuffle, lambda: state.order)


def _next_batch(
    config: ml_collections.ConfigDict, task: Task, state: TrainState, train: Any
) -> Any:
    position = state.step % _steps_per_epoch(config, task)
    chosen = jax.lax.dynamic_slice_in_dim(
        state.order, position * config.batch_size, config.batch_size
    )
    return jax.tree.map(lambda x: x[chosen], train)
