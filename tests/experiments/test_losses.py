"""Losses against NumPy."""

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


@pytest.mark.parametrize("name", sorted(losses.OUTPUT_LOSSES))
def test_losses_keep_the_dtype_of_the_outputs(name):
    value = losses.OUTPUT_LOSSES[name](jnp.asarray(OUTPUTS, jnp.bfloat16), DATA)
    assert value.dtype == jnp.bfloat16
    assert value.shape == ()
