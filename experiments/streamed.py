"""Training on examples that do not fit in device memory.

The host reads the mini-batches, and passes all examples by, some at a time, for the
full gradient and for the curvature products of a refresh. Steps, batches and states are
those of `programs`; so are the numbers, up to the rounding of the sums.

With subspace.num_examples the curvature is taken on the first so many examples, which
are in device memory, and the tracker refreshes there by itself.
"""

import functools
from collections.abc import Callable
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections

from experiments import measurements, optimizers, steps
from experiments.data import Data, Source, streaming
from experiments.measurements import Metrics, Record
from experiments.passes import scores_and_gradient
from experiments.programs import Programs
from experiments.steps import Branch, Full, TrainState
from experiments.tasks import Task


def programs(config: ml_collections.ConfigDict, task: Task, source: Source) -> Programs:
    """Return the functions of a run of one seed; `programs.programs`'s counterpart."""

    def compile_chunk(*arguments: Any) -> Callable:
        """Return the chunk; its parts are compiled when they are first needed."""
        del arguments
        return _Chunk(config, task, source)

    def initial_state() -> TrainState:
        return steps.initial_state(config, task, jnp.int32(config.seed))

    return Programs(initial_state, compile_chunk, jax.jit(steps.is_going))


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a config that cannot be streamed."""
    if config.seeds > 1:
        raise ValueError(f"task.streamed needs seeds = 1, got {config.seeds}.")
    if optimizers.is_full_batch(config.optimizer):
        raise ValueError(
            f"task.streamed reads mini-batches; {config.optimizer.name!r} takes none."
        )
    if config.examples_at_once < 1:
        raise ValueError(
            "task.streamed needs examples_at_once, how many fit in device memory."
        )


class _Chunk:
    """A chunk of steps, called like the one that `Programs` describes."""

    def __init__(
        self, config: ml_collections.ConfigDict, task: Task, source: Source
    ) -> None:
        take_step = functools.partial(_take_step, config, task)
        self._step = jax.jit(lambda *args: take_step(*args)[0], donate_argnums=0)
        self._recorded_step = jax.jit(take_step, donate_argnums=0)
        measure = functools.partial(_measure, config, task)
        self._measure = jax.jit(measure, static_argnums=0)
        self._going = jax.jit(steps.is_going)
        self._checked = jax.jit(steps.checked, donate_argnums=0)
        self._full = _FullPass(config, task, source)
        self._batches = _Batches(source, config.batch_size, config.seed)
        self._config = config
        self._by_rule = optimizers.switches_by_rule(config)
        self._refresher = None
        if not config.subspace.num_examples:
            self._refresher = _Refresher(config, task, source)

    def __call__(
        self,
        state: TrainState,
        branch: Branch,
        num_steps: Any,
        due: dict[str, Any],
        train: Any,
        test: Any,
    ) -> tuple[TrainState, dict[str, Metrics]]:
        metrics: dict[str, Metrics] = {}
        full = None  # until the first step, which is a measured one
        decides = self._by_rule and bool(branch.is_warmup)
        for i in range(int(num_steps)):
            if not self._going(state, branch):
                break
            refresher = self._refresher
            if refresher is not None and not refresher.is_due(state):
                refresher = None
            noise_free = steps.is_noise_free(self._config, int(state.step))
            if full is None or refresher or decides or noise_free:
                full = self._full(state)
            if refresher:
                state = refresher.refreshed(state, full.gradient)
            batch = self._batches.at(int(state.step))
            arguments = (branch, batch, full, (train, test))
            if i:
                state = self._step(state, *arguments)
            else:
                state, metrics = self._measured_step(due, state, *arguments)
        return self._checked(state), metrics

    def _measured_step(
        self, due: dict[str, Any], state: TrainState, *arguments: Any
    ) -> tuple[TrainState, dict[str, Metrics]]:
        *_, data = arguments
        model_state = jax.tree.map(jnp.copy, state.model_state)
        state, record = self._recorded_step(state, *arguments)
        metrics, memories = {}, dict(state.memories)
        for name in (name for name, is_due in due.items() if is_due):
            metrics[name], memory = self._measure(
                name, record, model_state, memories.get(name, ()), data
            )
            if name in memories:
                memories[name] = memory
        return state._replace(memories=memories), metrics


def _take_step(
    config: ml_collections.ConfigDict,
    task: Task,
    state: TrainState,
    branch: Branch,
    batch: Any,
    full: Full,
    data: tuple[Any, Any],
) -> tuple[TrainState, Record]:
    at_state, (train, _) = task.at(state.model_state), data
    weights = steps.weights(config, branch)
    if config.subspace.num_examples:
        tx = optimizers.tracked_optimizer(config, at_state, *weights, branch.rates)
        on = optimizers.curvature_data(config, task, train)
        update: Callable = functools.partial(tx.update, curvature_data=on)
    else:
        update = optimizers.stepwise_optimizer(config, *weights, branch.rates).update

    return steps.take_step(config, at_state, state, batch, full, branch.rates, update)


def _measure(
    config: ml_collections.ConfigDict,
    task: Task,
    name: str,
    record: Record,
    model_state: Any,
    memory: Any,
    data: tuple[Any, Any],
) -> tuple[Metrics, Any]:
    """Return one measurement's metrics and memory."""
    setting = steps.setting(config, task, model_state, *data)
    return measurements.MEASUREMENTS[name].take(record, setting, memory)


class _Batches:
    """Mini-batches by their steps, read ahead in the order of the steps."""

    def __init__(self, source: Source, batch_size: int, seed: int) -> None:
        self._iterator = streaming.batches(source, batch_size, seed=seed)
        self._next = 0

    def at(self, step: int) -> Data:
        if step != self._next:
            grain.experimental.set_next_index(self._iterator, step)
        self._next = step + 1
        return next(self._iterator)


class _FullPass:
    """The full loss, its gradient and the scores, by one pass over all examples."""

    def __init__(
        self, config: ml_collections.ConfigDict, task: Task, source: Source
    ) -> None:
        def of_chunk(params: Any, model_state: Any, chunk: Any) -> Any:
            return scores_and_gradient(task.at(model_state), params, chunk)

        self._of_chunk = jax.jit(of_chunk)
        self._chunks = functools.partial(
            streaming.chunks, source, config.examples_at_once
        )

    def __call__(self, state: TrainState) -> Full:
        (loss, scores), gradient = streaming.weighted_mean(
            functools.partial(self._of_chunk, state.params, state.model_state),
            self._chunks(),
        )
        return Full(loss, gradient, scores)


class _Refresher:
    """Refreshes of the basis, a pass over all examples for each block of products."""

    def __init__(
        self, config: ml_collections.ConfigDict, task: Task, source: Source
    ) -> None:
        def products(params: Any, model_state: Any, block: Any, chunk: Any) -> Any:
            curvature = optimizers.tracked_curvature(config, task.at(model_state))
            return jax.vmap(curvature(params, chunk))(block)

        # A refresh does not depend on the weights.
        pieces = optimizers.stepwise_optimizer(config, 1.0, 1.0)
        self.is_due = jax.jit(lambda state: pieces.due(state.opt_state))
        self._start = jax.jit(pieces.start)
        self._propose = jax.jit(pieces.propose, donate_argnums=0)
        self._absorb = jax.jit(pieces.absorb, donate_argnums=0)
        self._refreshed = jax.jit(pieces.refreshed, donate_argnums=0)
        self._products = jax.jit(products)
        self._chunks = functools.partial(
            streaming.chunks, source, config.examples_at_once
        )

    def refreshed(self, state: TrainState, gradient: Any) -> TrainState:
        """Return the state with the basis at its params; the old one is gone."""
        search = self._start(state.opt_state)
        while not search.done:
            search, block = self._propose(search)
            products = functools.partial(
                self._products, state.params, state.model_state, block
            )
            mean = streaming.weighted_mean(products, self._chunks())
            search = self._absorb(search, mean)
        opt_state = self._refreshed(state.opt_state, search, gradient)
        return state._replace(opt_state=opt_state)
