"""Losses against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import losses

OUTPUTS = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], np.float32)
DATA = {"labels": np.array([2, 1], np.int32)}


def test_half_squared_error_sums_over_outputs_and_averages_over_examples():
    # (0.25 + 1 + 1) / 2 and (1 + 1 + 0) / 2
    expected = (1.125 + 1.0) / 2
    value = losses.OUTPUT_LOSSES["half_squared_error"](OUTPUTS, DATA)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_cross_entropy():
    probabilities = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(axis=1, keepdims=True)
    expected = -(np.log(probabilities[0, 2]) + np.log(probabilities[1, 1])) / 2
    value = losses.OUTPUT_LOSSES["cross_entropy"](OUTPUTS, DATA)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_cross_entropy_of_large_outputs_is_finite():
    value = losses.cross_entropy(jnp.array([[1000.0, 0.0]]), {"labels": jnp.array([1])})
    np.testing.assert_allclose(value, 1000.0)


@pytest.mark.parametrize(("labels", "expected"), [([2, 0], 1.0), ([2, 1], 0.5)])
def test_accuracy(labels, expected):
    assert losses.accuracy(OUTPUTS, {"labels": np.array(labels)}) == expected


# --- log cosh -------------------------------------------------------------------------

ERRORS = np.array([0.0, 1e-6, -1e-3, 0.3, 0.999, -1.001, 5.0, -80.0, 1e4, 1e30])


def log_cosh_of(error):
    return losses.log_cosh(error.reshape(1, 1), {"labels": jnp.zeros((1, 1))})


def test_log_cosh_sums_over_outputs_and_averages_over_examples():
    errors = np.array([[0.5, -1.0, 1.0], [1.0, -1.0, 0.0]])
    expected = np.log(np.cosh(errors)).sum() / 2
    np.testing.assert_allclose(losses.log_cosh(OUTPUTS, DATA), expected, rtol=1e-6)


def test_log_cosh_of_small_and_large_errors():
    """To rounding: the value, and derivatives forward, reverse and one over the other.

    cosh x - 1 = 2 sinh^2(x / 2) keeps the digits of small x, as x - log 2 of large.
    """
    small = np.log1p(2 * np.sinh(np.minimum(np.abs(ERRORS), 50) / 2) ** 2)
    expected = np.where(np.abs(ERRORS) < 50, small, np.abs(ERRORS) - np.log(2))
    errors = jnp.asarray(ERRORS, jnp.float32)
    gradient = jax.grad(log_cosh_of)

    @jax.jit
    @jax.vmap
    def evaluate(error):
        one = jnp.ones_like(error)
        first = jax.jvp(log_cosh_of, (error,), (one,))[1]
        return log_cosh_of(error), first, *jax.jvp(gradient, (error,), (one,))

    value, forward, reverse, second = evaluate(errors)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(forward, np.tanh(ERRORS), rtol=1e-6)
    np.testing.assert_allclose(reverse, np.tanh(ERRORS), rtol=1e-6)
    # In the tails the digits of 1 - tanh^2 are those of 1.
    np.testing.assert_allclose(second, 1 - np.tanh(ERRORS) ** 2, rtol=1e-5, atol=2e-7)


# --- sequences, and real labels -------------------------------------------------------

TOKENS = {"labels": np.array([[2, 0], [1, 1], [0, 2]], np.int32)}
LOGITS = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)


def test_cross_entropy_and_accuracy_of_sequences():
    terms, hits = [], []
    for logits, labels in zip(LOGITS, TOKENS["labels"], strict=True):
        for position, label in enumerate(labels):
            row = logits[position].astype(np.float64)
            terms.append(np.log(np.exp(row).sum()) - row[label])
            hits.append(max(range(4), key=lambda c, row=row: row[c]) == label)
    value = losses.cross_entropy(LOGITS, TOKENS)
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-6)
    np.testing.assert_allclose(losses.accuracy(LOGITS, TOKENS), np.mean(hits))
    assert 0 < np.mean(hits) < 1


@pytest.mark.parametrize("name", sorted(losses.OUTPUT_LOSSES))
def test_ragged_chunks_of_sequences_add_up(name):
    loss = losses.OUTPUT_LOSSES[name]
    total = sum(
        len(logits) / 3 * loss(logits, {"labels": labels})
        for logits, labels in zip(
            (LOGITS[:2], LOGITS[2:]),
            (TOKENS["labels"][:2], TOKENS["labels"][2:]),
            strict=True,
        )
    )
    np.testing.assert_allclose(total, loss(LOGITS, TOKENS), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(losses.OUTPUT_LOSSES))
def test_real_labels_are_the_targets(name):
    loss = losses.OUTPUT_LOSSES[name]
    one_hot = {"labels": np.eye(3, dtype=np.float32)[DATA["labels"]]}
    np.testing.assert_array_equal(loss(OUTPUTS, one_hot), loss(OUTPUTS, DATA))


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (np.zeros((2, 1), np.float32), np.ones(2, np.float32)),
        (np.zeros((2, 2, 3), np.float32), np.ones(2, np.int32)),
    ],
    ids=["real", "integer"],
)
def test_labels_that_would_be_broadcast_are_refused(outputs, labels):
    with pytest.raises(ValueError, match=r"must have shape \(2, \d\), got \(2,\)"):
        losses.half_squared_error(outputs, {"labels": labels})


def test_accuracy_of_real_labels_is_refused():
    with pytest.raises(ValueError, match="integer labels, got float32"):
        losses.accuracy(OUTPUTS, {"labels": OUTPUTS})


# --- dtypes ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(losses.OUTPUT_LOSSES))
def test_losses_keep_the_dtype_of_the_outputs(name):
    value = losses.OUTPUT_LOSSES[name](jnp.asarray(OUTPUTS, jnp.bfloat16), DATA)
    assert value.dtype == jnp.bfloat16
    assert value.shape == ()
