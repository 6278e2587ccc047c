"""Residual networks with BatchNorm."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.layers import (
    INITIALIZERS,
    WeightsAndBiases,
    convolution,
    linear,
)
from experiments.models.pure import StatefulModel, pure_stateful_model
from experiments.names import lookup


def _batch_norm(
    channels: int, rngs: nnx.Rngs, scale_init: nnx.Initializer | None = None
) -> nnx.BatchNorm:
    """Return a BatchNorm with PyTorch's epsilon and pace of the running statistics.

    PyTorch's running variance has M - 1 in place of M, the number of values averaged;
    flax's has M, as both have in what they normalize by.
    """
    return nnx.BatchNorm(
        channels,
        momentum=0.9,
        epsilon=1e-5,
        use_fast_variance=False,
        scale_init=scale_init or nnx.initializers.ones_init(),
        rngs=rngs,
    )


class ResidualBlock(nnx.Module):
    """Basic block: two convolutions, each with BatchNorm, beside a shortcut.

    With stride 2 the shortcut takes every second pixel, normalizes (BatchNorm) and
    appends zeros for the new channels. The scale of the last BatchNorm begins at zero,
    so that the block begins as its shortcut (Goyal et al. 2017, arXiv:1706.02677).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        convolution_init: Callable[[int], WeightsAndBiases],
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.first = convolution(
            in_channels,
            channels,
            convolution_init,
            rngs,
            strides=stride,
            use_bias=False,
        )
        self.first_norm = _batch_norm(channels, rngs)
        self.second = convolution(
            channels, channels, convolution_init, rngs, use_bias=False
        )
        self.second_norm = _batch_norm(channels, rngs, nnx.initializers.zeros_init())
        self.shortcut_norm = _batch_norm(in_channels, rngs) if stride > 1 else None

    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array:
        """Map images [N, H, W, in_channels] to [N, H/stride, W/stride, channels]."""
        use_running_average = not training
        hidden = self.first_norm(self.first(images), use_running_average)
        hidden = self.second(jax.nn.relu(hidden))
        hidden = self.second_norm(hidden, use_running_average)
        shortcut = images[:, :: self.stride, :: self.stride]
        if self.shortcut_norm is not None:
            shortcut = self.shortcut_norm(shortcut, use_running_average)
        new_channels = hidden.shape[-1] - shortcut.shape[-1]
        shortcut = jnp.pad(shortcut, [(0, 0)] * 3 + [(0, new_channels)])
        return jax.nn.relu(hidden + shortcut)


class ResNet(nnx.Module):
    """A convolution, one basic block for each width, the mean over pixels, linear."""

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        num_outputs: int,
        *,
        convolution_init: Callable[[int], WeightsAndBiases],
        linear_init: Callable[[int], WeightsAndBiases],
        rngs: nnx.Rngs,
    ):
        self.first = convolution(
            in_channels, channels[0], convolution_init, rngs, use_bias=False
        )
        self.first_norm = _batch_norm(channels[0], rngs)
        self.blocks = nnx.List(
            [
                ResidualBlock(
                    inputs,
                    outputs,
                    stride=1 if index == 0 else 2,
                    convolution_init=convolution_init,
                    rngs=rngs,
                )
                for index, (inputs, outputs) in enumerate(
                    itertools.pairwise((channels[0], *channels))
                )
            ]
        )
        self.last = linear(channels[-1], num_outputs, linear_init, rngs)

    def __call__(self, images: jax.Array, *, training: bool) -> jax.Array:
        """Map images [N, H, W, C] to outputs [N, num_outputs]."""
        hidden = self.first_norm(self.first(images), not training)
        hidden = jax.nn.relu(hidden)
        for block in self.blocks:
            hidden = block(hidden, training=training)
        return self.last(hidden.mean(axis=(1, 2)))


def resnet8(
    in_channels: int = 3,
    num_outputs: int = 10,
    *,
    channels: Sequence[int] = (16, 32, 64),
    init: str = "pytorch",
) -> StatefulModel:
    """Return a residual network of one basic block for each width, with ReLU.

    ResNet-8 for CIFAR-10 (He et al. 2016 with 6 n + 2 layers, n = 1; shortcuts and
    initialization as in Zhang et al. 2019, arXiv:1901.09321, their baseline): 75,386
    parameters, the running statistics not counted. Every block after the first halves
    the image. See `StatefulModel` for what BatchNorm means for the Hessian.

    Shortcuts that append zeros and last scales that begin at zero put the new channels
    at exactly 0, where ReLU has no derivative; it is taken as 0, as in PyTorch. So
    these channels, 16 of the second block's 32 and 48 of the third's 64, stay at 0: of
    the 75,386 parameters 42,112 never get a gradient (nor do they in PyTorch), and the
    Hessian is zero on them. Last scales other than zero in the initial parameters,
    `params["blocks"][...]["second_norm"]["scale"]`, bring them to life.

    Args:
      in_channels: of the inputs [N, H, W, in_channels], of any height and width.
      num_outputs: number of classes.
      channels: of each block, not decreasing.
      init: `"pytorch"`: kernels N(0, 2/(9 c_out)), the linear layer uniform in
        ±1/√fan_in; or `"lecun"`. In both, each block's last BatchNorm has scale zero.

    Raises:
      ValueError: unknown names, or channels that decrease.
    """
    if not channels or list(channels) != sorted(channels):
        raise ValueError(
            "shortcuts append channels, so their numbers must not decrease; got "
            f"channels={tuple(channels)}"
        )
    initializers = lookup("init", init, INITIALIZERS)

    def build(key: jax.Array) -> ResNet:
        return ResNet(
            in_channels,
            channels,
            num_outputs,
            convolution_init=initializers.deep_convolution,
            linear_init=initializers.linear,
            rngs=nnx.Rngs(key),
        )

    return pure_stateful_model(build)
