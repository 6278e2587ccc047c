"""The compiled part of training: one step, and a chunk of steps.

A chunk starts with a measured step and ends where the next line is due. Everything that
differs between branches is an argument, so that a run compiles once.

With several seeds every leaf of the state has a leading axis, one member a seed, and
all members are trained by one vmapped program. They differ in their initial parameters,
their data order, and the step at which they switch. A member that has come to its end
stays as it is while the others go on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from dominant.pytrees import do_if
from experiments import measurements, optimizers
from experiments.measurements import Metrics, Record, Setting
from experiments.tasks import Task

NOT_DIVERGED = -1

_SEEDS = "seeds"
# Independent streams of random numbers from one seed; the seed's own key initializes.
_ORDER_STREAM, _PROBE_STREAM, _SAMPLE_STREAM = 1, 2, 3


class TrainState(NamedTuple):
    """All that the next step depends on, and all that a checkpoint holds.

    seed: int32. step: int32, steps taken. model_state: statistics of the network, if it
    keeps any. order: [N] int32, this epoch's permutation of the examples, or () where
    there are no epochs. memories: what measurements keep, by their names. diverged_at:
    int32, the first step that met non-finite numbers, or NOT_DIVERGED.
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
    int32, one a member, where it ends at the latest.
    """

    dom: Any
    bulk: Any
    is_warmup: Any
    last_step: Any


class Programs(NamedTuple):
    """The functions of a run. Data are arguments, never constants.

    initial_state: `() -> state`.
    chunk: `(state, branch, num_steps, due, train, test) -> (state, metrics)`, compiled;
      it gives up its state's memory. Metrics are those of the first step: a dict of one
      for each measurement; those not `due` are zeros.
    going: `(state, branch) -> bool`, one a member: whether it has a step to take.
    """

    initial_state: Callable[[], TrainState]
    chunk: Any
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
        lambda *args: _step(config, task, *args), (0, axes_of_branch, None, None)
    )
    going = over_members(_is_going, (0, axes_of_branch))

    def take(name: str, record: Record, before: TrainState, data: tuple) -> Any:
        """Return one measurement's metrics and memory."""
        measurement = measurements.MEASUREMENTS[name]

        def of_member(record: Record, model_state: Any, memory: Any) -> Any:
            setting = _setting(config, task, model_state, *data)
            return measurement.take(record, setting, memory)

        return over_members(of_member, 0)(
            record, before.model_state, before.memories.get(name, ())
        )

    def chunk(
        state: TrainState,
        branch: Branch,
        num_steps: jax.Array,
        due: dict[str, jax.Array],
        train: Any,
        test: Any,
    ) -> tuple[TrainState, dict[str, Metrics]]:
        def unfinished(carry: tuple) -> jax.Array:
            i, state, _ = carry
            return (i < num_steps) & jnp.any(going(state, branch))

        def body(carry: tuple) -> tuple:
            i, before, metrics = carry
            state, record = step(before, branch, i == 0, train)
            taken = {}
            for name in metrics:

                def measure(_: Any, name: str = name) -> Any:
                    return take(name, record, before, (train, test))

                # Not a `cond`, which would copy the memories at each step.
                memory = state.memories.get(name, ())
                is_due = (i == 0) & due[name]
                taken[name] = do_if(is_due, measure, (metrics[name], memory))
            memories = {name: taken[name][1] for name in state.memories}
            metrics = {name: values for name, (values, _) in taken.items()}
            return i + 1, state._replace(memories=memories), metrics

        def blank(state: TrainState, train: Any, test: Any) -> dict[str, Metrics]:
            _, record = step(state, branch, jnp.ones((), bool), train)
            return {
                name: take(name, record, state, (train, test))[0]
                for name in measurements.chosen(config)
            }

        shapes = jax.eval_shape(blank, state, train, test)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        start = (jnp.zeros_like(num_steps), state, zeros)
        _, state, metrics = jax.lax.while_loop(unfinished, body, start)
        return state, metrics

    def initial_state() -> TrainState:
        seeds = config.seed + jnp.arange(config.seeds, dtype=jnp.int32)
        make = over_members(lambda seed: _initial_state(config, task, seed), (0,))
        return make(seeds if many else seeds[0])

    return Programs(initial_state, jax.jit(chunk, donate_argnums=0), jax.jit(going))


def _setting(
    config: ml_collections.ConfigDict,
    task: Task,
    model_state: Any,
    train: Any,
    test: Any,
) -> Setting:
    task = task.at(model_state)
    curvature = optimizers.curvature(config, task)
    on = optimizers.curvature_data(config, train)
    return Setting(config, task, curvature, on, train, test)


# One member.


def _initial_state(
    config: ml_collections.ConfigDict, task: Task, seed: jax.Array
) -> TrainState:
    params = task.init(jax.random.key(seed))
    tx = optimizers.tracked_optimizer(config, task, 1.0, 1.0)
    opt_state = tx.init(params)
    order: Any = ()
    if _has_epochs(config, task):
        order = jnp.arange(task.num_train, dtype=jnp.int32)
    setting = _setting(config, task, task.model_state, task.train, task.test)
    return TrainState(
        seed=jnp.asarray(seed, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=task.model_state,
        opt_state=opt_state,
        order=order,
        memories=measurements.initial_memories(params, setting),
        diverged_at=jnp.full((), NOT_DIVERGED, jnp.int32),
    )


def _is_going(state: TrainState, branch: Branch) -> jax.Array:
    """Return whether a member has another step to take in this branch."""
    engaged = optimizers.switch_state(state.opt_state).engaged
    healthy = state.diverged_at == NOT_DIVERGED
    ended = (state.step >= branch.last_step) | (branch.is_warmup & engaged)
    return healthy & ~ended


def _step(
    config: ml_collections.ConfigDict,
    task: Task,
    state: TrainState,
    branch: Branch,
    measured: jax.Array,
    train: Any,
) -> tuple[TrainState, Record]:
    """Take one member's next step; with several, leave one as it is that has ended."""
    going = _is_going(state, branch)
    state = state._replace(order=_epoch_order(config, task, state))
    batch = _next_batch(config, task, state, train)
    at_batch = task.at(state.model_state)

    def batch_loss_fn(params: Any) -> tuple[jax.Array, Any]:
        return task.training_loss(params, state.model_state, batch)

    (batch_loss, model_state), batch_gradient = jax.value_and_grad(
        batch_loss_fn, has_aux=True
    )(state.params)
    # The full gradient costs dozens of steps: only where it is looked at.
    loss, gradient = jax.lax.cond(
        measured | branch.is_warmup,
        lambda: jax.value_and_grad(at_batch.loss_fn)(state.params, train),
        lambda: (batch_loss, batch_gradient),
    )
    tx = optimizers.tracked_optimizer(
        config,
        at_batch,
        branch.dom,
        branch.bulk,
        axis_name=_SEEDS if config.seeds > 1 else None,
    )
    updates, opt_state = tx.update(
        batch_gradient,
        state.opt_state,
        state.params,
        curvature_data=optimizers.curvature_data(config, train),
        gradient=gradient,
        grad_fn=lambda params, _: jax.grad(batch_loss_fn, has_aux=True)(params)[0],
        active=going if config.seeds > 1 else None,
    )
    record = Record(
        step=state.step,
        key=_key(state, _PROBE_STREAM, state.step),
        params=state.params,
        loss=loss,
        gradient=gradient,
        batch_loss=batch_loss,
        batch_gradient=batch_gradient,
        updates=updates,
        tracker=opt_state,
        average=optimizers.switch_state(opt_state).average,
    )
    healthy = jnp.isfinite(batch_loss) & jnp.isfinite(optax.tree.norm(updates))
    healthy &= opt_state.failed_refreshes == 0
    new = state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        opt_state=opt_state,
        diverged_at=jnp.where(healthy, state.diverged_at, state.step),
    )
    return (_unless(going, new, state) if config.seeds > 1 else new), record


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


def _key(state: TrainState, stream: int, number: jax.Array) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(state.seed), stream)
    return jax.random.fold_in(key, number)


def _has_epochs(config: ml_collections.ConfigDict, task: Task) -> bool:
    return task.sample is None and not optimizers.is_full_batch(config.optimizer)


def _epoch_order(
    config: ml_collections.ConfigDict, task: Task, state: TrainState
) -> Any:
    """Draw a new permutation at the start of an epoch, from the seed and the epoch."""
    if not _has_epochs(config, task):
        return ()
    epoch, position = jnp.divmod(state.step, task.num_train // config.batch_size)
    starts = position == 0

    def shuffle() -> jax.Array:
        key = _key(state, _ORDER_STREAM, epoch)
        order = jax.random.permutation(key, task.num_train).astype(jnp.int32)
        return jnp.where(starts, order, state.order)

    if config.seeds > 1:  # decided together, so that it stays a real branch
        any_starts = jax.lax.pmax(starts.astype(jnp.int32), _SEEDS) > 0
    else:
        any_starts = starts
    return jax.lax.cond(any_starts, shuffle, lambda: state.order)


def _next_batch(
    config: ml_collections.ConfigDict, task: Task, state: TrainState, train: Any
) -> Any:
    """Return the step's examples; the state's order is this epoch's."""
    if task.sample is not None:
        return task.sample(_key(state, _SAMPLE_STREAM, state.step))
    if not _has_epochs(config, task):
        return train
    position = state.step % (task.num_train // config.batch_size)
    chosen = jax.lax.dynamic_slice_in_dim(
        state.order, position * config.batch_size, config.batch_size
    )
    return jax.tree.map(lambda x: x[chosen], train)
