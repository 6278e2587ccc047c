"""Fully connected networks."""

import itertools
from collections.abc import Sequence

import jax
from flax import nnx

from experiments.models.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    Activation,
    Initializers,
    linear,
)
from experiments.models.pure import Model, pure_model
from experiments.names import lookup


class MLP(nnx.Module):
    """Dense layers with biases and one activation between them; flattens its inputs."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Activation,
        initializers: Initializers,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.layers = nnx.List(
            [
                linear(num_inputs, num_outputs, initializers.linear, rngs)
                for num_inputs, num_outputs in itertools.pairwise(sizes)
            ]
        )

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs [N, ...] to outputs [N, sizes[-1]]."""
        hidden = inputs.reshape(inputs.shape[0], -1)
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        return self.layers[-1](hidden)


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
    activation_fn = lookup("activation", activation, ACTIVATIONS)
    initializers = lookup("init", init, INITIALIZERS)

    def build(key: jax.Array) -> MLP:
        return MLP(
            sizes,
            activation=activation_fn,
            initializers=initializers,
            rngs=nnx.Rngs(key),
        )

    return pure_model(build)
