"""Networks as pure functions.

A network is written as a flax `nnx.Module` and split once into its graph, which is
static, and its parameters, a plain tree: what a pure `loss_fn(params, data)` needs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Params = dict[str, Any]
"""Nested dicts with string keys and arrays at the leaves."""

State = dict[str, Any]
"""Running statistics, in nested dicts like the parameters'."""

Inputs = Any
"""An array, or a tree of arrays, with the N examples on the leading axis."""

Apply = Callable[[Params, Inputs], jax.Array]


class Model(NamedTuple):
    """A network as two pure functions; both work under jit, vmap and grad.

    init: `init(key) -> params`; vmap it over keys for several seeds.
    apply: `apply(params, inputs) -> outputs`, from [N, ...] to [N, num_outputs] (for a
      model of sequences [N, L, num_outputs]).
    """

    init: Callable[[jax.Array], Params]
    apply: Apply


class StatefulModel(NamedTuple):
    """A network with BatchNorm, as three pure functions.

    init: `init(key) -> (params, state)`; the state holds the running statistics.
    apply: `apply(params, state, inputs) -> outputs`, evaluation: normalizes by the
      running statistics.
    apply_training: `apply_training(params, state, inputs) -> (outputs, new_state)`:
      normalizes by the statistics of these inputs, and moves the running ones by a
      tenth towards them.

    Each of the two modes makes another loss and so another Hessian; say which one yours
    is.

    - Evaluation, the state held fixed: the loss is a mean over examples that do not see
      each other, so `in_batches` and `gradient_second_moment` are exact. It is the
      curvature of the network as it is used, not of what a training step descends.
    - Training, `apply_training(...)[0]`: the curvature of what a step on these examples
      descends. The batch's mean and variance depend on the parameters, and derivatives
      go through them. They couple the examples: the loss on N examples is *not* the
      mean of the losses on its parts. The Hessian of the full training loss then takes
      all examples at once. `in_batches` gives the mean Hessian of the batches
      (normalized batch by batch), and `gradient_second_moment` normalizes each example
      by itself: other matrices, however many examples there are.
      There the outputs do not depend on the scale of a kernel K that a normalization
      follows (epsilon aside), so that K^T g = 0 and, within K's block, H K = -g: such a
      Hessian is never positive definite.

    The state is data, not a constant of the loss, or each new one compiles anew:

        def loss_fn(params, data):
            state, examples = data
            return output_loss_fn(
                model.apply(params, state, examples["inputs"]), examples
            )

    `in_batches` cuts each leaf of its data, so the state goes around it:

        def curvature(params, data):
            state, examples = data
            whole = dominant.hessian(lambda p, part: loss_fn(p, (state, part)))
            return dominant.in_batches(whole, 500)(params, examples)
    """

    init: Callable[[jax.Array], tuple[Params, State]]
    apply: Callable[[Params, State, Inputs], jax.Array]
    apply_training: Callable[[Params, State, Inputs], tuple[jax.Array, State]]


def pure_model(build: Callable[[jax.Array], nnx.Module]) -> Model:
    """Return the pure functions of the module that `build(key)` makes.

    Raises:
      ValueError: see `split`.
    """
    apply, _ = split(_abstract(build))

    def init(key: jax.Array) -> Params:
        return split(build(key))[1]

    return Model(init, apply)


def split(module: nnx.Module) -> tuple[Apply, Params]:
    """Split a module into a pure function and the tree of its parameters.

    Returns:
      apply: `apply(params, inputs) -> outputs`, pure in both arguments.
      params: nested dicts with string keys, so that optax and orbax see a plain tree.

    Raises:
      ValueError: the module holds state that is not a parameter (batch statistics,
        random streams); a pure function of the parameters would have to ignore it.
    """
    graph, *states = nnx.split(module, nnx.Param, ...)
    state, other = states
    _require_empty(other, "only parameters may be state of a module")
    template = _template(state)

    def apply(params: Params, inputs: Inputs) -> jax.Array:
        return nnx.merge(graph, _like_template(template, params))(inputs)

    return apply, _string_keys(nnx.to_pure_dict(state))


def pure_stateful_model(build: Callable[[jax.Array], nnx.Module]) -> StatefulModel:
    """Return the pure functions of a module with batch statistics.

    Args:
      build: `key -> module`. The module is called as `module(inputs, training=...)`,
        and its only state besides parameters are `nnx.BatchStat` variables.

    Raises:
      ValueError: the module holds other state, such as random streams.
    """
    graph, *states = nnx.split(_abstract(build), nnx.Param, nnx.BatchStat, ...)
    *known, other = states
    _require_empty(other, "only parameters and batch statistics may be state")
    params_template, state_template = map(_template, known)

    def split_up(module: nnx.Module) -> tuple[Params, State]:
        _, *states = nnx.split(module, nnx.Param, nnx.BatchStat)
        params, state = (_string_keys(nnx.to_pure_dict(part)) for part in states)
        return params, state

    def merge(params: Params, state: State) -> Any:
        return nnx.merge(
            graph,
            _like_template(params_template, params),
            _like_template(state_template, state),
        )

    def init(key: jax.Array) -> tuple[Params, State]:
        return split_up(build(key))

    def apply(params: Params, state: State, inputs: Inputs) -> jax.Array:
        return merge(params, state)(inputs, training=False)

    def apply_training(
        params: Params, state: State, inputs: Inputs
    ) -> tuple[jax.Array, State]:
        # A NumPy array would be written to in place.
        module = merge(params, jax.tree.map(jnp.asarray, state))
        outputs = module(inputs, training=True)
        return outputs, split_up(module)[1]

    return StatefulModel(init, apply, apply_training)


def _abstract(build: Callable[[jax.Array], nnx.Module]) -> nnx.Module:
    """Return the module that `build(key)` makes, with shapes in place of arrays."""
    return nnx.eval_shape(lambda: build(jax.random.key(0)))


def _require_empty(state: Any, rule: str) -> None:
    """Raise ValueError if there is state that a pure function would have to ignore."""
    if jax.tree.leaves(state):
        paths = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)]
        raise ValueError(f"{rule}; it also has {paths}")


def _template(state: Any) -> Any:
    """Return the nested dicts of a state with flax's own keys, None at the leaves."""
    return jax.tree.map(lambda _: None, nnx.to_pure_dict(state))


def _string_keys(tree: Any) -> Any:
    """Return the nested dicts with every key as a string (flax numbers list items)."""
    if not isinstance(tree, dict):
        return tree
    return {str(key): _string_keys(value) for key, value in tree.items()}


def _like_template(template: Any, tree: Any) -> Any:
    """Undo `_string_keys`: take the keys from `template`, the leaves from `tree`."""
    if not isinstance(template, dict):
        return tree
    return {
        key: _like_template(value, tree[str(key)]) for key, value in template.items()
    }
