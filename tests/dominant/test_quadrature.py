"""The nodes and weights of Lanczos quadrature, and smoothing them in other units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo

pytestmark = pytest.mark.usefixtures("strict")

NUM_PROBES = 40


@jax.jit
def full(matrix):
    """All Lanczos steps: only the probes' randomness is left."""
    n = matrix.shape[0]
    return dominant.spectral_quadrature(
        zoo.matvec(matrix),
        zoo.like(n, matrix.dtype),
        key=jax.random.key(0),
        num_probes=NUM_PROBES,
        num_steps=n,
    )


@pytest.mark.parametrize("name", ["gapped", "plus-minus", "rank-6"])
def test_moments_are_those_of_the_spectrum(name, x64):
    """Mean and variance of v^T M^p v over random unit vectors are known."""
    matrix = zoo.matrix(name)
    n = len(matrix)
    rule = full(jnp.asarray(matrix))
    assert rule.nodes.shape == rule.weights.shape == (NUM_PROBES, n)
    np.testing.assert_allclose(np.sum(rule.weights, axis=1), 1, rtol=1e-12)
    values = np.linalg.eigvalsh(matrix)
    # Also where the Krylov space is exhausted, at rank 6.
    assert np.min(rule.nodes) > values[0] - 1e-9
    assert np.max(rule.nodes) < values[-1] + 1e-9
    for power in (1, 2, 5):
        found = np.sum(rule.weights * rule.nodes**power, axis=1)
        powers = values**power
        deviation = np.sqrt(2 * np.var(powers) / (n + 2))
        error = abs(np.mean(found) - np.mean(powers))
        assert error < 4 * deviation / NUM_PROBES**0.5


def test_the_density_of_mapped_eigenvalues(x64):
    """On the scale asinh(t / c) that of eigenvalues mapped beforehand."""
    matrix = zoo.matrix("large-negative")
    values, scale, width = np.linalg.eigvalsh(matrix), 0.1, 0.25
    rule = full(jnp.asarray(matrix))
    mapped = rule._replace(nodes=jnp.arcsinh(rule.nodes / scale))
    grid = np.linspace(-10, 10, 801)
    found = dominant.smoothed_density(mapped, jnp.asarray(grid), width=width)
    distances = (grid[:, None] - np.arcsinh(values / scale)) / width
    kernels = np.exp(-(distances**2) / 2) / (width * np.sqrt(2 * np.pi))
    deviation = np.sqrt(2 * np.var(kernels, axis=1) / (len(values) + 2) / NUM_PROBES)
    error = np.abs(found - np.mean(kernels, axis=1))
    assert np.all(error <= 5 * deviation + 1e-6)
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("grid", "width", "message"),
    [
        (np.ones((2, 2)), 1.0, r"one axis, got shape \(2, 2\)"),
        (np.ones(1), 0.0, "width must be positive, got 0"),
    ],
)
def test_impossible_smoothing_is_refused(grid, width, message):
    ones = jnp.ones((1, 1), jnp.float32)
    rule = dominant.Quadrature(ones, ones)
    with pytest.raises(ValueError, match=message):
        dominant.smoothed_density(rule, jnp.asarray(grid, jnp.float32), width=width)


def test_a_quadrature_without_probes_is_refused():
    with pytest.raises(ValueError, match="num_probes must be at least 1, got 0"):
        dominant.spectral_quadrature(
            lambda v: v,
            zoo.like(zoo.SMALL, np.float32),
            key=jax.random.key(0),
            num_probes=0,
            num_steps=2,
        )
