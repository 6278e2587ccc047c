"""The bound on lambda_{k+1} fails as rarely as stated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import dominant
from dominant import certificate
from tests.dominant import zoo
from tests.dominant.solving import ROUNDING, jitted

pytestmark = pytest.mark.usefixtures("strict")

HIDDEN = {
    # the largest eigenvalue is missing from the start and stands alone
    "far": lambda n: np.concatenate([[10, 5, 4, 3], np.linspace(1, -1, n - 4)]),
    # ... is within a percent of the others
    "near": lambda n: np.concatenate(
        [[3.03, 3.02, 3.01, 3], np.linspace(2.9, 0, n - 4)]
    ),
    # ... is the top of a spectrum without gaps
    "dense": lambda n: np.linspace(1, 0, n),
}


@functools.partial(jax.jit, static_argnames="k")
def bounds_of_next(matrix, start, keys, *, k):
    """The bound on lambda_{k+1} of a short solve from each key."""
    matvec, like = zoo.matvec(matrix), zoo.like(len(matrix), matrix.dtype)

    def solution(key):
        found = dominant.top_eigenspace(
            matvec, like, k, key=key, start=start, tol=1e-2, max_matvecs=20
        )
        return found.next_eigenvalue, found.next_residual

    return jax.lax.map(solution, keys)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("spectrum", HIDDEN)
def test_next_eigenvalue_is_missed_as_rarely_as_stated(spectrum, warm):
    """At most one solve in 10^4 may bound lambda_{k+1} from the wrong side."""
    n, k, solves = zoo.LARGE, 3, 300
    values = HIDDEN[spectrum](n)
    matrix = jnp.asarray(zoo.with_spectrum(values, seed=5), jnp.float32)
    reference = zoo.reference(matrix)
    start = None
    if warm:
        start = zoo.subspace(reference.vectors[1 : k + 1], zoo.like(n, jnp.float32))

    keys = jax.random.split(jax.random.key(0), solves)
    estimate, error = (
        np.asarray(x, np.float64) for x in bounds_of_next(matrix, start, keys, k=k)
    )
    assert not np.any(np.isnan(error))
    eps = float(jnp.finfo(jnp.float32).eps)
    exact = reference.eigenvalues[k] - ROUNDING * eps * reference.norm
    known = error < np.inf
    misses = np.sum(~(estimate[known] + error[known] >= exact))
    assert misses <= scipy.stats.binom.ppf(1 - 1e-6, solves, 1e-4)


def test_the_probability_holds_across_restarts(monkeypatch):
    """With a failure probability that can be counted, it fails that often at most."""
    stated, n, k, solves = 0.1, zoo.LARGE, 3, 300
    monkeypatch.setattr(certificate, "FAILURE_PROBABILITY", stated)
    values = np.concatenate([[2, 1.5, 1.01], 1 - np.linspace(0, 1, n - 3) ** 0.7])
    matrix = jnp.asarray(zoo.with_spectrum(values, seed=5), jnp.float32)
    reference = zoo.reference(matrix)
    like = zoo.like(n, jnp.float32)
    start = zoo.subspace(reference.vectors[:k], like)

    @jax.jit
    def uppers(matrix, keys):
        def upper(key):
            found = dominant.top_eigenspace(
                zoo.matvec(matrix), like, k, key=key, start=start
            )
            return found.next_eigenvalue + found.next_residual, found.num_matvecs

        return jax.lax.map(upper, keys)

    keys = jax.random.split(jax.random.key(0), solves)
    upper, num_matvecs = jax.tree.map(np.asarray, uppers(matrix, keys))
    misses = np.sum(upper < 1 - 1e-5)
    assert 0 < misses <= scipy.stats.binom.ppf(1 - 1e-6, solves, stated)
    # Most probes have needed more products than they have columns.
    columns = max(2 * k + 2, k + 12) - k
    assert np.median(num_matvecs) - k > 1.5 * columns


def test_a_small_gap_is_certified_by_a_probe_that_outlives_its_columns():
    n, k = zoo.LARGE, 3
    values = np.concatenate([[2, 1.5, 1.06], np.linspace(1, -0.5, n - 3)])
    matrix = jnp.asarray(zoo.with_spectrum(values, seed=6), jnp.float32)
    found = jitted(matrix, k=k, tol=1e-3)
    reference = zoo.reference(matrix)
    sine = zoo.largest_sine(zoo.to_rows(found.basis), reference.vectors[:k])
    assert sine <= dominant.error_bound(found) < 0.1
    assert found.num_matvecs < 100
