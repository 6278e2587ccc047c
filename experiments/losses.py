"""Losses as functions of a network's outputs.

Each is an `output_loss_fn(outputs, data) -> scalar`: a sum over the C outputs f and
targets y of an example, averaged over the N examples, with outputs [N, C]. For
sequences, with outputs [N, L, C], the mean is over examples and positions, so that the
means over chunks of examples, weighted by their sizes, still add up to that over all.

`data["labels"]` are integers below C, [N] or [N, L], and y their one-hot rows; or real
numbers, of the outputs' shape, which are y themselves.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Data = Mapping[str, jax.Array]


def half_squared_error(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of ½ Σ_c (f_c − y_c)², a sum over outputs."""
    errors = outputs - _targets(outputs, data)
    return 0.5 * jnp.mean(jnp.sum(errors**2, axis=-1))


def squared_error(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of Σ_c (f_c − y_c)², a sum over outputs."""
    return 2 * half_squared_error(outputs, data)


def square_root(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of Σ_c (√(1 + (f_c − y_c)²) − 1).

    As `log_cosh`: its second derivative at 0 is 1, and it grows like the error.
    """
    squares = (outputs - _targets(outputs, data)) ** 2
    # The same number without the difference, which would lose small errors.
    return jnp.mean(jnp.sum(squares / (1 + jnp.sqrt(1 + squares)), axis=-1))


def log_cosh(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of Σ_c log cosh(f_c − y_c), a sum over outputs.

    Like half the squared error for small errors, like the absolute error for large
    ones: the loss of Song and Yun (2023), whose second derivative at 0 is 1.
    """
    errors = outputs - _targets(outputs, data)
    return jnp.mean(jnp.sum(log_cosh_of_each(errors), axis=-1))


def cross_entropy(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the mean over examples of −Σ_c y_c log softmax(f)_c, in nats."""
    log_probabilities = jax.nn.log_softmax(outputs)
    targets = _targets(outputs, data)
    return -jnp.mean(jnp.sum(targets * log_probabilities, axis=-1))


def accuracy(outputs: jax.Array, data: Data) -> jax.Array:
    """Return the share of labels whose output is the largest, in [0, 1].

    Raises:
      ValueError: if the labels are real numbers.
    """
    labels = data["labels"]
    if jnp.issubdtype(labels.dtype, jnp.floating):
        raise ValueError(f"accuracy needs integer labels, got {labels.dtype}.")
    return jnp.mean(jnp.argmax(outputs, axis=-1) == labels)


def _targets(outputs: jax.Array, data: Data) -> jax.Array:
    """Return y, of the shape and dtype of the outputs."""
    labels = data["labels"]
    is_real = jnp.issubdtype(labels.dtype, jnp.floating)
    expected = outputs.shape if is_real else outputs.shape[:-1]
    if labels.shape != expected:  # broadcasting would pair all with all
        raise ValueError(
            f"{labels.dtype} labels for outputs {outputs.shape} must have shape "
            f"{expected}, got {labels.shape}."
        )
    if is_real:
        return labels.astype(outputs.dtype)
    return jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)


# With tanh as the derivative, gradients of small errors keep their relative accuracy;
# the derivative of optax's formula is a difference of two numbers near ½.
@jax.custom_jvp
def log_cosh_of_each(x: jax.Array) -> jax.Array:
    """Return log cosh x for each entry, accurate for small |x|, finite for large."""
    size = jnp.abs(x)
    small = jnp.log1p(2 * jnp.sinh(size / 2) ** 2)
    large = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
    return jnp.where(size < 1, small, large)


log_cosh_of_each.defjvps(lambda tangent, _, x: jnp.tanh(x) * tangent)


OUTPUT_LOSSES: Mapping[str, Callable[[jax.Array, Data], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "half_squared_error": half_squared_error,
    "log_cosh": log_cosh,
    "sqrt": square_root,
    "squared_error": squared_error,
}
