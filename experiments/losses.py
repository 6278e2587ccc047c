"""Losses as functions of a network's outputs.

Each is an `output_loss_fn(outputs, data) -> scalar`: the mean over the N examples, with
outputs f [N, C] and `data["labels"]` [N], integers below C, taken one-hot as y.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Data = Mapping[str, jax.Array]


def half_squared_error(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of ½ Σ_c (f_c − y_c)², a sum over outputs."""
    errors = outputs - _one_hot_labels(outputs, data)
    return 0.5 * jnp.mean(jnp.sum(errors**2, axis=-1))


def cross_entropy(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of −Σ_c y_c log softmax(f)_c, in nats."""
    log_probabilities = jax.nn.log_softmax(outputs)
    targets = _one_hot_labels(outputs, data)
    return -jnp.mean(jnp.sum(targets * log_probabilities, axis=-1))


def accuracy(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the share of examples whose largest output is that of the label."""
    return jnp.mean(jnp.argmax(outputs, axis=-1) == data["labels"])


def _one_hot_labels(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the labels as rows of zeros and a one, [N, C]."""
    return jax.nn.one_hot(data["labels"], outputs.shape[-1], dtype=outputs.dtype)


OUTPUT_LOSSES: Mapping[str, Callable[[jax.Array, Data], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "half_squared_error": half_squared_error,
}
