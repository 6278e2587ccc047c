"""A transformer encoder that classifies sentences."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.attention import (
    Embedding,
    EncoderBlock,
    require_heads,
    sinusoidal_positions,
)
from experiments.models.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    Activation,
    Initializers,
    linear,
)
from experiments.models.pure import Model, pure_model
from experiments.names import lookup

Pool = Callable[[jax.Array], jax.Array]

POOLS: Mapping[str, Pool] = {"all": jnp.ones_like, "tokens": lambda mask: mask}
"""From the mask of the tokens to the one of the positions whose mean is classified."""


class TransformerClassifier(nnx.Module):
    """Embeddings with fixed positions, encoder blocks, their mean, a linear layer."""

    def __init__(
        self,
        vocab_size: int,
        width: int,
        num_layers: int,
        num_heads: int,
        num_hidden: int,
        num_outputs: int,
        *,
        activation: Activation,
        pool: Pool,
        initializers: Initializers,
        rngs: nnx.Rngs,
    ):
        self.pool = pool
        self.embedding = Embedding(
            vocab_size, width, initializers=initializers, rngs=rngs
        )
        self.blocks = nnx.List(
            [
                EncoderBlock(
                    width,
                    num_heads,
                    num_hidden,
                    activation=activation,
                    initializers=initializers,
                    rngs=rngs,
                )
                for _ in range(num_layers)
            ]
        )
        self.last = linear(width, num_outputs, initializers.linear, rngs)

    def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """Map `"ids"` [N, L] and `"mask"` [N, L] to outputs [N, num_outputs]."""
        ids, is_token = inputs["ids"], jnp.asarray(inputs["mask"], bool)
        hidden = self.embedding(ids)
        positions = sinusoidal_positions(*hidden.shape[1:])
        hidden += positions.astype(hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden, is_token[:, None, None, :])
        weights = self.pool(is_token).astype(hidden.dtype)
        # A sentence without any token has the mean 0, not 0/0.
        counts = jnp.maximum(weights.sum(axis=1, keepdims=True), 1)
        return self.last(jnp.einsum("nl,nld->nd", weights / counts, hidden))


def transformer_classifier(
    num_outputs: int = 2,
    *,
    vocab_size: int = 30_522,
    width: int = 64,
    num_layers: int = 2,
    num_heads: int = 8,
    num_hidden: int = 2048,
    activation: str = "relu",
    pool: str = "tokens",
    init: str = "pytorch",
) -> Model:
    """Return a transformer encoder that classifies sentences.

    As it stands, the network of Song et al. (arXiv:2405.16002) on SST-2: 2,515,842
    parameters; its layers are those of `torch.nn.TransformerEncoderLayer` without
    dropout (post-LN), the embeddings are not scaled, and positions are sinusoidal.

    The inputs are a dict of `"ids"` [N, L], integers below vocab_size (others give
    NaN), and `"mask"` [N, L], 1 or true at tokens and 0 or false at padding. No query
    attends to padding.

    Args:
      num_outputs: number of classes.
      vocab_size: rows of the embedding.
      width: d, of embeddings and hidden states.
      num_layers: encoder blocks.
      num_heads: of attention; divides the width.
      num_hidden: units of each feed-forward network.
      activation: a name in `ACTIVATIONS`, in the feed-forward networks.
      pool: the mean that is classified is over `"tokens"`, or over `"all"` positions.
        With `"all"`, as in the paper's code, outputs depend on the amount of padding.
      init: `"pytorch"`, the default of each of PyTorch's modules: embeddings N(0, 1);
        linear layers uniform in ±1/√fan_in; attention's projections to queries, keys
        and values uniform in ±√(6/(4d)), and all its biases zero. (But each layer is
        drawn by itself. `torch.nn.TransformerEncoder` copies one, so that its layers
        begin equal: for that, set `params["blocks"]["1"] = params["blocks"]["0"]`.)
        Or `"lecun"`: embeddings N(0, 1/d), the rest LeCun-normal.

    Raises:
      ValueError: unknown names, or num_heads does not divide the width.
    """
    require_heads(width, num_heads)
    activation_fn = lookup("activation", activation, ACTIVATIONS)
    initializers = lookup("init", init, INITIALIZERS)
    pool_fn = lookup("pool", pool, POOLS)

    def build(key: jax.Array) -> TransformerClassifier:
        return TransformerClassifier(
            vocab_size,
            width,
            num_layers,
            num_heads,
            num_hidden,
            num_outputs,
            activation=activation_fn,
            pool=pool_fn,
            initializers=initializers,
            rngs=nnx.Rngs(key),
        )

    return pure_model(build)
