"""One training step: what it starts from, what it leaves, and where its examples are.

Functions here see one member of a run; `programs` vmaps them over the seeds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from experiments import measurements, optimizers
from experiments.measurements import Record, Setting
from experiments.tasks import Task

NOT_DIVERGED = -1

# Independent streams of random numbers from one seed; the seed's own key initializes.
_ORDER_STREAM, _PROBE_STREAM, _SAMPLE_STREAM, _CURVATURE_STREAM = 1, 2, 3, 4


class TrainState(NamedTuple):
    """All that the next step depends on, and all that a checkpoint holds.

    seed: int32. step: int32, steps taken. model_state: statistics of the network, if it
    keeps any. order: [N] int32, this epoch's permutation of the examples, or () where
    there are no epochs. memories: what measurements keep, by their names. diverged_at:
    int32, the first step that starts from, or meets, numbers that are not finite, or
    NOT_DIVERGED.
    """

    seed: jax.Array
    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    order: Any
    memories: dict[str, Any]
    diverged_at: jax.Array


class Branch(NamedTuple):
    """A branch as the chunk sees it.

    dom, bulk: the weights. is_warmup: whether a member stops at its switch. last_step:
    int32, one a member, where it ends at the latest. dom_end, bulk_end: what the
    weights become, with projection.ramp_steps. rates: the numbers of the learning-rate
    schedule, an argument as the others are; None: the config's.
    """

    dom: Any
    bulk: Any
    is_warmup: Any
    last_step: Any
    dom_end: Any = None
    bulk_end: Any = None
    rates: optimizers.Rates | None = None


class Full(NamedTuple):
    """The full training loss, its gradient, and the task's other scores by name.

    At the params of the step where somebody looks at them; else at those of an earlier
    one in the same chunk.
    """

    loss: jax.Array
    gradient: Any
    scores: dict[str, jax.Array]


def initial_state(
    config: ml_collections.ConfigDict, task: Task, seed: jax.Array
) -> TrainState:
    """Return what a member starts from."""
    params = task.init(jax.random.key(seed))
    tx = optimizers.tracked_optimizer(config, task, 1.0, 1.0)
    order: Any = ()
    if _has_order(config, task):
        order = jnp.arange(task.num_train, dtype=jnp.int32)
    at_start = setting(config, task, task.model_state, task.train, task.test)
    return TrainState(
        seed=jnp.asarray(seed, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=task.model_state,
        opt_state=tx.init(params),
        order=order,
        memories=measurements.initial_memories(params, at_start),
        diverged_at=jnp.full((), NOT_DIVERGED, jnp.int32),
    )


def setting(
    config: ml_collections.ConfigDict,
    task: Task,
    model_state: Any,
    train: Any,
    test: Any,
) -> Setting:
    """Return what measurements see beside the record."""
    task = task.at(model_state)
    curvature = optimizers.hessian(config, task)
    on = optimizers.curvature_data(config, task, train)
    return Setting(config, task, curvature, on, train, test)


def weights(config: ml_collections.ConfigDict, branch: Branch) -> tuple[Any, Any]:
    """Return a branch's weights (dom, bulk), schedules where they are ramped."""
    dom = optimizers.ramp(config, branch.dom, branch.dom_end)
    return dom, optimizers.ramp(config, branch.bulk, branch.bulk_end)


def is_going(state: TrainState, branch: Branch) -> jax.Array:
    """Return whether a member has another step to take in this branch."""
    engaged = optimizers.switch_state(state.opt_state).engaged
    healthy = state.diverged_at == NOT_DIVERGED
    ended = (state.step >= branch.last_step) | (branch.is_warmup & engaged)
    return healthy & ~ended


def checked(state: TrainState) -> TrainState:
    """Return the state, diverged if its params are not finite.

    For the end of a chunk: within one, the next step's loss shows it.
    """
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)]
    known = (state.diverged_at != NOT_DIVERGED) | jnp.all(jnp.stack(finite))
    return state._replace(diverged_at=jnp.where(known, state.diverged_at, state.step))


def is_noise_free(config: ml_collections.ConfigDict, step: Any) -> Any:
    """Return whether a step takes the gradient of all training examples."""
    if not config.noise_free_steps:
        return False
    first, last = config.noise_free_steps
    return (first <= step) & (step < last)


def take_step(
    config: ml_collections.ConfigDict,
    task: Task,
    state: TrainState,
    batch: Any,
    full: Full,
    rates: optimizers.Rates | None,
    update: Callable[..., tuple[Any, Any]],
) -> tuple[TrainState, Record]:
    """Take a step.

    Args:
      config: the whole config.
      task: at any model state.
      state: before the step.
      batch: its examples.
      full: the full loss and gradient; read by the switch's rule, the record, and the
        tracker's `alignment_change`, and where the step is noise-free.
      rates: the branch's, for the record.
      update: `(batch_gradient, opt_state, params, *, gradient, grad_fn)`, as that of
        `optimizers.tracked_optimizer`.
    """

    def batch_loss_fn(params: Any) -> tuple[jax.Array, Any]:
        return task.training_loss(params, state.model_state, batch)

    (batch_loss, model_state), batch_gradient = jax.value_and_grad(
        batch_loss_fn, has_aux=True
    )(state.params)
    if config.noise_free_steps:
        noise_free = is_noise_free(config, state.step)
        batch_gradient = jax.tree.map(
            lambda g, of_batch: jnp.where(noise_free, g, of_batch),
            full.gradient,
            batch_gradient,
        )
    updates, opt_state = update(
        batch_gradient,
        state.opt_state,
        state.params,
        gradient=full.gradient,
        grad_fn=lambda params, _: jax.grad(batch_loss_fn, has_aux=True)(params)[0],
    )
    record = Record(
        step=state.step,
        key=_key(state, _PROBE_STREAM, state.step),
        params=state.params,
        loss=full.loss,
        gradient=full.gradient,
        scores=full.scores,
        batch_loss=batch_loss,
        batch_gradient=batch_gradient,
        updates=updates,
        learning_rate=optimizers.learning_rate(config.optimizer, config.steps, rates)(
            state.step
        ),
        tracker=opt_state,
        average=optimizers.switch_state(opt_state).average,
    )
    # A step that is left out changes nothing, whatever its loss.
    finite = jnp.isfinite(batch_loss) | config.optimizer.skip_not_finite
    healthy = finite & (opt_state.failed_refreshes == 0)
    new = state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        opt_state=opt_state,
        diverged_at=jnp.where(healthy, state.diverged_at, state.step),
    )
    return new, record


# Which examples.


def has_epochs(config: ml_collections.ConfigDict, task: Task) -> bool:
    """Return whether mini-batches are drawn from a training set, epoch by epoch."""
    return task.sample is None and not optimizers.is_full_batch(config.optimizer)


def with_epoch_order(
    config: ml_collections.ConfigDict,
    task: Task,
    state: TrainState,
    axis_name: str | None = None,
) -> TrainState:
    """Draw a new permutation at the start of an epoch, from the seed and the epoch."""
    if not _has_order(config, task):
        return state
    epoch, position = jnp.divmod(state.step, task.num_train // config.batch_size)
    starts = position == 0

    def shuffle() -> jax.Array:
        key = _key(state, _ORDER_STREAM, epoch)
        order = jax.random.permutation(key, task.num_train).astype(jnp.int32)
        return jnp.where(starts, order, state.order)

    if axis_name is None:
        any_starts = starts
    else:  # decided together, so that it stays a real branch
        any_starts = jax.lax.pmax(starts.astype(jnp.int32), axis_name) > 0
    return state._replace(order=jax.lax.cond(any_starts, shuffle, lambda: state.order))


def next_batch(
    config: ml_collections.ConfigDict, task: Task, state: TrainState, train: Any
) -> Any:
    """Return the step's examples; the state's order is this epoch's."""
    if task.sample is not None:
        key = _key(state, _SAMPLE_STREAM, state.step)
        return task.sample(key, config.batch_size)
    if not has_epochs(config, task):
        return train
    position = state.step % (task.num_train // config.batch_size)
    chosen = jax.lax.dynamic_slice_in_dim(
        state.order, position * config.batch_size, config.batch_size
    )
    return jax.tree.map(lambda x: x[chosen], train)


def tracked_data(
    config: ml_collections.ConfigDict,
    task: Task,
    state: TrainState,
    train: Any,
    batch: Any,
) -> Any:
    """Return what a refresh at this step takes the curvature on."""
    key = _key(state, _CURVATURE_STREAM, state.step)
    return optimizers.tracked_data(config, task, train, batch, key, state.opt_state)


def _has_order(config: ml_collections.ConfigDict, task: Task) -> bool:
    """Return whether the state holds the epoch's order; a source has its own."""
    return has_epochs(config, task) and task.source is None


def _key(state: TrainState, stream: int, number: jax.Array) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(state.seed), stream)
    return jax.random.fold_in(key, number)
