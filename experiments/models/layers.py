"""What the networks are built from: activations, initializations, layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Activation = Callable[[jax.Array], jax.Array]
WeightsAndBiases = tuple[nnx.Initializer, nnx.Initializer]

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


class Initializers(NamedTuple):
    """How the weights and the biases of each kind of layer begin.

    Each is a function of the layer's number of inputs: fan_in, 9 c_in for a convolution
    of 3x3 pixels, the width d for attention and for a table [V, d] of embeddings.

    linear: linear layers, and the convolutions of `cnn`.
    deep_convolution: the convolutions of `vgg11` and `resnet8`.
    attention_in: the projections to queries, keys and values.
    attention_out: the projection of the heads' outputs.
    embedding: tables of embeddings, which have no biases.
    """

    linear: Callable[[int], WeightsAndBiases]
    deep_convolution: Callable[[int], WeightsAndBiases]
    attention_in: Callable[[int], WeightsAndBiases]
    attention_out: Callable[[int], WeightsAndBiases]
    embedding: Callable[[int], nnx.Initializer]


def _uniform(bound: float) -> nnx.Initializer:
    """Return an initializer that is uniform in [-bound, bound)."""

    def initialize(
        key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any
    ) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def _lecun(fan_in: int) -> WeightsAndBiases:
    """Weights normal with variance 1/fan_in and zero biases."""
    del fan_in  # flax reads it from the shape
    return nnx.initializers.lecun_normal(), nnx.initializers.zeros_init()


_PYTORCH = Initializers(
    # torch.nn.Linear and Conv2d: kaiming_uniform_ with a = √5, so that
    # √(6 / ((1 + a²) fan_in)) = 1/√fan_in; the biases have the same bound.
    linear=lambda fan_in: (_uniform(fan_in**-0.5), _uniform(fan_in**-0.5)),
    # N(0, 2 / (9 c_out)) for a kernel [3, 3, c_in, c_out] (He et al. 2015).
    deep_convolution=lambda _: (
        nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        nnx.initializers.zeros_init(),
    ),
    # torch.nn.MultiheadAttention: xavier_uniform_ on the three matrices as one of
    # [3d, d], so that the bound is √(6 / (d + 3d)); all biases zero.
    attention_in=lambda d: (
        _uniform((6 / (d + 3 * d)) ** 0.5),
        nnx.initializers.zeros_init(),
    ),
    attention_out=lambda d: (_uniform(d**-0.5), nnx.initializers.zeros_init()),
    embedding=lambda _: nnx.initializers.normal(1.0),
)

_LECUN = Initializers(
    linear=_lecun,
    deep_convolution=_lecun,
    attention_in=_lecun,
    attention_out=_lecun,
    embedding=lambda d: nnx.initializers.normal(d**-0.5),
)

INITIALIZERS: Mapping[str, Initializers] = {"lecun": _LECUN, "pytorch": _PYTORCH}
"""PyTorch's defaults, layer by layer, and flax's (LeCun-normal)."""


def linear(
    num_inputs: int,
    num_outputs: int,
    initializers: Callable[[int], WeightsAndBiases],
    rngs: nnx.Rngs,
    **options: Any,
) -> nnx.Linear:
    """Return a linear layer, kernel [num_inputs, num_outputs]."""
    kernel_init, bias_init = initializers(num_inputs)
    return nnx.Linear(
        num_inputs,
        num_outputs,
        kernel_init=kernel_init,
        bias_init=bias_init,
        rngs=rngs,
        **options,
    )


def convolution(
    in_channels: int,
    out_channels: int,
    initializers: Callable[[int], WeightsAndBiases],
    rngs: nnx.Rngs,
    **options: Any,
) -> nnx.Conv:
    """Return a 3x3 convolution with one pixel of zeros around its inputs [N, H, W, C].

    Its kernel is [3, 3, in_channels, out_channels].
    """
    kernel_init, bias_init = initializers(3 * 3 * in_channels)
    return nnx.Conv(
        in_channels,
        out_channels,
        (3, 3),
        padding=1,  # unlike "SAME" centred at stride 2, too
        kernel_init=kernel_init,
        bias_init=bias_init,
        conv_general_dilated=(
            convolve_by_matmul
            if jax.default_backend() == "cpu"
            else jax.lax.conv_general_dilated
        ),
        rngs=rngs,
        **options,
    )


def convolve_by_matmul(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    precision: Any = None,
    **options: Any,
) -> jax.Array:
    """Return `jax.lax.conv_general_dilated` of [N, H, W, C] and [h, w, C, O].

    One multiplication of all patches, h w C numbers each, with the kernel. On a CPU
    that is as fast, and it stays so inside loops. There XLA takes the convolutions of a
    derivative tens of times as long as elsewhere (jax-ml/jax issue 12868).

    Raises:
      ValueError: if an option asks for dilation or groups.
    """
    if options.pop("feature_group_count", 1) != 1 or any(
        set(options.pop(name, None) or (1,)) != {1}
        for name in ("lhs_dilation", "rhs_dilation")
    ):
        raise ValueError("convolve_by_matmul knows no dilation and no groups.")
    height, width, _, num_outputs = kernel.shape
    padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    down, across = strides
    rows = padded.shape[1] - height + 1
    columns = padded.shape[2] - width + 1
    patches = jnp.concatenate(
        [
            padded[:, i : i + rows : down, j : j + columns : across]
            for i in range(height)
            for j in range(width)
        ],
        axis=-1,
    )
    return jnp.matmul(patches, kernel.reshape(-1, num_outputs), precision=precision)


def layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Return a layer normalization with PyTorch's epsilon and the two-pass variance."""
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


def max_pool(images: jax.Array) -> jax.Array:
    """Return the maxima of 2x2 windows, from [N, H, W, C] to [N, H//2, W//2, C].

    Equal maxima share the derivative. (As reductions of reshaped images, gradients and
    products of small batches take a fifth of the time of `nnx.max_pool`'s on a CPU.)
    """
    num, height, width, channels = images.shape
    height, width = height // 2, width // 2
    windows = images[:, : 2 * height, : 2 * width]
    windows = windows.reshape(num, height, 2, width, 2, channels)
    return windows.max(axis=(2, 4))
