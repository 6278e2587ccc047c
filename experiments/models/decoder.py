"""A transformer decoder that predicts characters."""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.attention import DecoderBlock, Embedding, require_heads
from experiments.models.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    Activation,
    Initializers,
    layer_norm,
    linear,
)
from experiments.models.pure import Model, pure_model
from experiments.names import lookup


class GPT(nnx.Module):
    """Embeddings of characters and positions, decoder blocks, a norm, linear."""

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        width: int,
        num_layers: int,
        num_heads: int,
        *,
        activation: Activation,
        initializers: Initializers,
        rngs: nnx.Rngs,
    ):
        self.embedding = Embedding(
            vocab_size, width, initializers=initializers, rngs=rngs
        )
        self.positions = Embedding(
            max_length, width, initializers=initializers, rngs=rngs
        )
        self.blocks = nnx.List(
            [
                DecoderBlock(
                    width,
                    num_heads,
                    4 * width,
                    activation=activation,
                    initializers=initializers,
                    rngs=rngs,
                )
                for _ in range(num_layers)
            ]
        )
        self.norm = layer_norm(width, rngs)
        self.head = linear(width, vocab_size, initializers.linear, rngs, use_bias=False)

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Map ids [N, L] to the logits of each next character, [N, L, vocab_size]."""
        length, max_length = ids.shape[1], len(self.positions.table)
        if length > max_length:
            raise ValueError(
                f"sequences may have up to max_length = {max_length} characters; got "
                f"ids of shape {ids.shape}"
            )
        hidden = self.embedding(ids) + self.positions(jnp.arange(length))
        causal = jnp.tri(length, dtype=bool)  # no query attends to a later key
        for block in self.blocks:
            hidden = block(hidden, causal)
        return self.head(self.norm(hidden))


def gpt(
    vocab_size: int,
    *,
    max_length: int = 64,
    width: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    activation: str = "gelu",
    init: str = "pytorch",
) -> Model:
    """Return a causal transformer that predicts each next character.

    GPT-2's layout (Radford et al. 2019): learned positions, pre-LN blocks with a
    feed-forward network of 4 d units, a last norm. The head has weights of its own and
    no biases; tied to embeddings N(0, 1), it would begin with logits of variance d.

    Parameters, with V = vocab_size, T = max_length, d = width:
    2 V d + T d + num_layers (12 d² + 13 d) + 2 d.

    The inputs are ids [N, L], integers below vocab_size (others give NaN), L at most
    max_length; the outputs are logits [N, L, vocab_size].

    Args:
      vocab_size: number of characters; tiny shakespeare has 65.
      max_length: rows of the table of positions.
      width: d, of embeddings and hidden states.
      num_layers: decoder blocks.
      num_heads: of attention; divides the width.
      activation: a name in `ACTIVATIONS`; `"gelu"` is the tanh approximation, as in
        GPT-2.
      init: as for `transformer_classifier`; positions like embeddings.

    Raises:
      ValueError: unknown names, or num_heads does not divide the width; in `apply`, if
        a sequence is too long.
    """
    require_heads(width, num_heads)
    activation_fn = lookup("activation", activation, ACTIVATIONS)
    initializers = lookup("init", init, INITIALIZERS)

    def build(key: jax.Array) -> GPT:
        return GPT(
            vocab_size,
            max_length,
            width,
            num_layers,
            num_heads,
            activation=activation_fn,
            initializers=initializers,
            rngs=nnx.Rngs(key),
        )

    return pure_model(build)
