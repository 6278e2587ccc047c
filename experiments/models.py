"""Networks as pairs of pure functions.

A network is written as a flax `nnx.Module` and split once into its graph, which is
static, and its parameters, a plain tree: what a pure `loss_fn(params, data)` needs.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Params = dict[str, Any]
"""Nested dicts with string keys and arrays at the leaves."""

Apply = Callable[[Params, jax.Array], jax.Array]
Activation = Callable[[jax.Array], jax.Array]
Initializers = tuple[nnx.Initializer, nnx.Initializer]

ACTIVATIONS: Mapping[str, Activation] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "hard_tanh": jax.nn.hard_tanh,
    "identity": lambda x: x,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def _pytorch_initializers(fan_in: int) -> Initializers:
    """Weights and biases uniform in ±1/√fan_in, PyTorch's default for `Linear`."""
    return _uniform(fan_in**-0.5), _uniform(fan_in**-0.5)


def _uniform(bound: float) -> nnx.Initializer:
    """Return an initializer that is uniform in [-bound, bound)."""

    def initialize(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any
    ) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def _lecun_initializers(fan_in: int) -> Initializers:
    """Weights normal with variance 1/fan_in and zero biases, flax's default."""
    del fan_in  # flax reads it from the shape
    return nnx.initializers.lecun_normal(), nnx.initializers.zeros_init()


INITIALIZERS: Mapping[str, Callable[[int], Initializers]] = {
    "lecun": _lecun_initializers,
    "pytorch": _pytorch_initializers,
}
"""From a layer's number of inputs to the initializers of its weights and biases."""


class Model(NamedTuple):
    """A network as two pure functions; both work under jit, vmap and grad.

    init: `init(key) -> params`; vmap it over keys for several seeds.
    apply: `apply(params, inputs) -> outputs`, from [N, ...] to [N, num_outputs].
    """

    init: Callable[[jax.Array], Params]
    apply: Apply


class MLP(nnx.Module):
    """Dense layers with biases and one activation between them; flattens its inputs."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Activation,
        initializers: Callable[[int], Initializers],
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.layers = nnx.List(
            [
                _linear(num_inputs, num_outputs, initializers(num_inputs), rngs)
                for num_inputs, num_outputs in itertools.pairwise(sizes)
            ]
        )

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs [N, ...] to outputs [N, sizes[-1]]."""
        hidden = inputs.reshape(inputs.shape[0], -1)
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        return self.layers[-1](hidden)


def _linear(
    num_inputs: int, num_outputs: int, initializers: Initializers, rngs: nnx.Rngs
) -> nnx.Linear:
    """Return one dense layer."""
    kernel_init, bias_init = initializers
    return nnx.Linear(
        num_inputs, num_outputs, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs
    )


def mlp(sizes: Sequence[int], activation: str = "tanh", init: str = "pytorch") -> Model:
    """Return a fully connected network.

    Args:
      sizes: units of each layer, inputs first: (784, 200, 200, 10) has two hidden
        layers and 199,210 parameters.
      activation: a name in `ACTIVATIONS`, used after each layer but the last.
      init: a name in `INITIALIZERS`. The weights' variance is 1/(3 fan_in) for
        `"pytorch"` and 1/fan_in for `"lecun"`: another initial loss and curvature.

    Raises:
      ValueError: fewer than two sizes, or an unknown name.
    """
    if len(sizes) < 2:
        raise ValueError(
            f"an MLP needs the number of inputs and of outputs; got sizes={sizes}"
        )
    activation_fn = _lookup("activation", activation, ACTIVATIONS)
    initializers = _lookup("init", init, INITIALIZERS)

    def build(key: jax.Array) -> MLP:
        return MLP(
            sizes,
            activation=activation_fn,
            initializers=initializers,
            rngs=nnx.Rngs(key),
        )

    return _model(build)


def _model(build: Callable[[jax.Array], nnx.Module]) -> Model:
    """Return the pure functions of the module that `build(key)` makes."""
    abstract = nnx.eval_shape(lambda: build(jax.random.key(0)))
    apply, _ = split(abstract)

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
    if jax.tree.leaves(other):
        paths = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(other)]
        raise ValueError(
            f"only parameters may be state of a module; it also has {paths}"
        )
    params = nnx.to_pure_dict(state)
    template = jax.tree.map(lambda _: None, params)

    def apply(params: Params, inputs: jax.Array) -> jax.Array:
        module = nnx.merge(graph, _like_template(template, params))
        return module(inputs)

    return apply, _string_keys(params)


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


def _lookup(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """Return `known[name]`, or say which names there are."""
    if name not in known:
        raise ValueError(
            f"unknown {kind} {name!r}; known ones: {', '.join(sorted(known))}"
        )
    return known[name]
