"""The layers of transformers.

Attention is written in plain operations. The fused kernels (cuDNN, flash attention)
have a rule for the gradient but none for the gradient's derivative, so products with
the Hessian fail on them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models.layers import Activation, Initializers, layer_norm, linear


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
    """Return the fixed positions of Vaswani et al. 2017 (section 3.5), [length, width].

    With d = width, PE[p, 2i] = sin(p / 10000^(2i/d)) and PE[p, 2i+1] the cosine.
    """
    index = np.arange(width)
    angles = np.arange(length)[:, None] / 10000.0 ** ((index - index % 2) / width)
    return np.where(index % 2, np.cos(angles), np.sin(angles))


class Embedding(nnx.Module):
    """A table [num_embeddings, width], of which it looks up rows.

    The rows have the table's type at the time, while those of `nnx.Embed` keep the type
    that the table began with, and so bring float32 into products in any other type.
    """

    def __init__(
        self,
        num_embeddings: int,
        width: int,
        *,
        initializers: Initializers,
        rngs: nnx.Rngs,
    ):
        initialize = initializers.embedding(width)
        self.table = nnx.Param(initialize(rngs.params(), (num_embeddings, width)))

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Map ids [...] to [..., width]; to NaN where there is no such row."""
        return jnp.take(self.table[...], ids, axis=0, mode="fill")


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array
) -> jax.Array:
    """Return softmax(Q K^T / √c) V for each head, masked keys left out.

    The softmax is taken in float32 or wider. (`jax.nn.dot_product_attention` takes it
    in float32 always, and would spoil a comparison in float64.)

    Args:
      query: Q, [N, L, num_heads, c], and key and value likewise.
      key: K.
      value: V.
      mask: true where a query may attend to a key, broadcast to [N, num_heads, L, L].
        A query that may attend to none attends to all alike.
    """
    scores = jnp.einsum("nqhc,nkhc->nhqk", query, key) / np.sqrt(query.shape[-1])
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    return jnp.einsum("nhqk,nkhc->nqhc", weights, value)


class SelfAttention(nnx.Module):
    """Multi-head attention of a sequence to itself, with biases.

    Head h takes the h-th d / num_heads columns of the projections, as in PyTorch.
    """

    def __init__(
        self, width: int, num_heads: int, *, initializers: Initializers, rngs: nnx.Rngs
    ):
        self.num_heads = num_heads
        self.query = linear(width, width, initializers.attention_in, rngs)
        self.key = linear(width, width, initializers.attention_in, rngs)
        self.value = linear(width, width, initializers.attention_in, rngs)
        self.out = linear(width, width, initializers.attention_out, rngs)

    def __call__(self, inputs: jax.Array, mask: jax.Array) -> jax.Array:
        """Map inputs [N, L, d] to [N, L, d]; the mask is that of `attention`."""
        heads = (*inputs.shape[:2], self.num_heads, -1)
        hidden = attention(
            self.query(inputs).reshape(heads),
            self.key(inputs).reshape(heads),
            self.value(inputs).reshape(heads),
            mask,
        )
        return self.out(hidden.reshape(inputs.shape))


class FeedForward(nnx.Module):
    """Two linear layers with an activation between, at each position by itself."""

    def __init__(
        self,
        width: int,
        num_hidden: int,
        *,
        activation: Activation,
        initializers: Initializers,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.first = linear(width, num_hidden, initializers.linear, rngs)
        self.second = linear(num_hidden, width, initializers.linear, rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs [..., d] to [..., d]."""
        return self.second(self.activation(self.first(inputs)))


class Block(nnx.Module):
    """Attention and a feed-forward network, each with its layer normalization."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        num_hidden: int,
        *,
        activation: Activation,
        initializers: Initializers,
        rngs: nnx.Rngs,
    ):
        self.attention = SelfAttention(
            width, num_heads, initializers=initializers, rngs=rngs
        )
        self.attention_norm = layer_norm(width, rngs)
        self.feed_forward = FeedForward(
            width,
            num_hidden,
            activation=activation,
            initializers=initializers,
            rngs=rngs,
        )
        self.feed_forward_norm = layer_norm(width, rngs)


class EncoderBlock(Block):
    """Post-LN: norm(x + attention(x)), then norm(x + feed_forward(x))."""

    def __call__(self, inputs: jax.Array, mask: jax.Array) -> jax.Array:
        """Map inputs [N, L, d] to [N, L, d]; the mask is that of `attention`."""
        hidden = self.attention_norm(inputs + self.attention(inputs, mask))
        return self.feed_forward_norm(hidden + self.feed_forward(hidden))


class DecoderBlock(Block):
    """Pre-LN: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __call__(self, inputs: jax.Array, mask: jax.Array) -> jax.Array:
        """Map inputs [N, L, d] to [N, L, d]; the mask is that of `attention`."""
        hidden = inputs + self.attention(self.attention_norm(inputs), mask)
        return hidden + self.feed_forward(self.feed_forward_norm(hidden))


def require_heads(width: int, num_heads: int) -> None:
    """Raise ValueError unless the heads share the width evenly."""
    if num_heads < 1 or width % num_heads:
        raise ValueError(
            f"num_heads must divide the width; got width={width}, num_heads={num_heads}"
        )
