"""Convolutional networks without normalization."""

import itertools
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from experiments.models.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    Activation,
    WeightsAndBiases,
    convolution,
    linear,
    max_pool,
)
from experiments.models.pure import Model, pure_model
from experiments.names import lookup

_VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_VGG11_HIDDEN = (512, 512)


class ConvNet(nnx.Module):
    """Stages of 3x3 convolutions, each ended by a 2x2 max-pool, then linear layers.

    There is one activation after each layer but the last.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        stages: Sequence[Sequence[int]],
        hidden_sizes: Sequence[int],
        num_outputs: int,
        *,
        activation: Activation,
        convolution_init: Callable[[int], WeightsAndBiases],
        linear_init: Callable[[int], WeightsAndBiases],
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        height, width, channels = image_shape
        convolutions = []
        for stage in stages:
            pairs = itertools.pairwise((channels, *stage))
            convolutions.append(
                nnx.List([convolution(*pair, convolution_init, rngs) for pair in pairs])
            )
            height, width, channels = height // 2, width // 2, stage[-1]
        self.stages = nnx.List(convolutions)
        sizes = (height * width * channels, *hidden_sizes, num_outputs)
        self.layers = nnx.List(
            [
                linear(inputs, outputs, linear_init, rngs)
                for inputs, outputs in itertools.pairwise(sizes)
            ]
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images [N, H, W, C] to outputs [N, num_outputs]."""
        hidden = images
        for stage in self.stages:
            for convolve in stage:
                hidden = self.activation(convolve(hidden))
            hidden = max_pool(hidden)
        hidden = hidden.reshape(hidden.shape[0], -1)
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        return self.layers[-1](hidden)


def cnn(
    image_shape: Sequence[int] = (32, 32, 3),
    num_outputs: int = 10,
    *,
    channels: Sequence[int] = (32, 32),
    activation: str = "relu",
    init: str = "pytorch",
) -> Model:
    """Return [3x3 convolution, activation, 2x2 max-pool] per channel, then linear.

    As it stands, the CNN of Song et al. (arXiv:2405.16002) on CIFAR-10: 30,634
    parameters. With ReLU it is piecewise linear in each layer's parameters, so that the
    functional Hessian's layer-diagonal blocks are zero.

    Args:
      image_shape: height, width and channels of the inputs [N, H, W, C].
      num_outputs: number of classes.
      channels: of each convolution.
      activation: a name in `ACTIVATIONS`.
      init: a name in `INITIALIZERS`, uniform in ±1/√fan_in for `"pytorch"`.

    Raises:
      ValueError: unknown names, or the max-pools leave nothing of the image.
    """
    _require_size(image_shape, len(channels))
    activation_fn = lookup("activation", activation, ACTIVATIONS)
    initializers = lookup("init", init, INITIALIZERS)

    def build(key: jax.Array) -> ConvNet:
        return ConvNet(
            image_shape,
            [(size,) for size in channels],
            (),
            num_outputs,
            activation=activation_fn,
            convolution_init=initializers.linear,
            linear_init=initializers.linear,
            rngs=nnx.Rngs(key),
        )

    return pure_model(build)


def vgg11(
    image_shape: Sequence[int] = (32, 32, 3),
    num_outputs: int = 10,
    *,
    width: float = 1.0,
    init: str = "pytorch",
) -> Model:
    """Return VGG-11 for small images, with ReLU, without BatchNorm or dropout.

    Convolutions 64-M-128-M-256-256-M-512-512-M-512-512-M, M a 2x2 max-pool, then linear
    layers 512-512, 512-512, 512-10 (Simonyan and Zisserman 2015, configuration A; for
    CIFAR-10 as Cohen et al. 2021, arXiv:2103.00065, have it): 9,750,922 parameters.

    Args:
      image_shape: height, width and channels of the inputs [N, H, W, C]; at least 32
        pixels a side.
      num_outputs: number of classes.
      width: multiplies the number of channels and of hidden units of every layer; each
        is rounded and at least 1. 1/16 leaves 39,690 parameters.
      init: `"pytorch"`: kernels N(0, 2/(9 c_out)), their biases zero, linear layers
        uniform in ±1/√fan_in; or `"lecun"`.

    Raises:
      ValueError: unknown names, or the max-pools leave nothing of the image.
    """
    _require_size(image_shape, len(_VGG11))
    initializers = lookup("init", init, INITIALIZERS)

    def scaled(sizes: Sequence[int]) -> list[int]:
        return [max(1, round(width * size)) for size in sizes]

    def build(key: jax.Array) -> ConvNet:
        return ConvNet(
            image_shape,
            [scaled(stage) for stage in _VGG11],
            scaled(_VGG11_HIDDEN),
            num_outputs,
            activation=jax.nn.relu,
            convolution_init=initializers.deep_convolution,
            linear_init=initializers.linear,
            rngs=nnx.Rngs(key),
        )

    return pure_model(build)


def _require_size(image_shape: Sequence[int], num_pools: int) -> None:
    """Raise ValueError unless at least one pixel is left after the max-pools."""
    if len(image_shape) != 3 or min(image_shape[:2]) < 2**num_pools:
        raise ValueError(
            f"image_shape must be (height, width, channels), both sides at least "
            f"{2**num_pools} for {num_pools} max-pools; got {tuple(image_shape)}"
        )
