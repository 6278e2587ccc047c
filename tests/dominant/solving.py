"""Solves whose products are counted, and what a solution has to satisfy."""

import jax
import jax.numpy as jnp
import numpy as np

import dominant
from tests.dominant import zoo

ROUNDING = 10  # multiples of eps (times the norm of the matrix, where it has one)
TOL = {"float32": 1e-3, "float64": 1e-8}
BUDGET = {zoo.SMALL: 300, zoo.LARGE: 900}  # enough for every spectrum of the zoo

EXECUTED = []  # one entry for each product that ran


def counted(matvec):
    """Count the products that are executed, also under jit and inside loops."""

    def product(v):
        jax.debug.callback(lambda _: EXECUTED.append(1), v["scale"])
        return matvec(v)

    return product


def executed_by(function):
    """The result of a call and the number of products that it executed."""
    jax.effects_barrier()
    EXECUTED.clear()
    result = jax.block_until_ready(function())
    jax.effects_barrier()
    return result, len(EXECUTED)


def solve(matrix, start=None, key=None, *, k, tol, max_matvecs=None):
    return dominant.top_eigenspace(
        counted(zoo.matvec(matrix)),
        zoo.like(len(matrix), matrix.dtype),
        k,
        key=key,
        start=start,
        tol=tol,
        max_matvecs=max_matvecs,
    )


jitted = jax.jit(solve, static_argnames=("k", "tol", "max_matvecs"))


def perturbed(matrix, size, seed=0):
    """Add a random symmetric matrix of this spectral norm."""
    noise = np.random.default_rng(seed).standard_normal(matrix.shape)
    noise = (noise + noise.T) / 2
    return matrix + size * noise / np.linalg.norm(noise, 2)


def floor_of(found, reference):
    eps = jnp.finfo(found.eigenvalues.dtype).eps
    return ROUNDING * float(eps) * reference.norm


def assert_orthonormal(found):
    """Twice ROUNDING: a basis, and one rotation of it by LAPACK's eigenvectors."""
    rows = zoo.to_rows(found.basis)
    eps = jnp.finfo(found.eigenvalues.dtype).eps
    assert np.max(np.abs(rows @ rows.T - np.eye(len(rows)))) <= 2 * ROUNDING * eps


def assert_residuals(found, reference):
    """Reported residuals are the explicit ones within 50% and the rounding floor."""
    explicit = zoo.explicit_residuals(reference.matrix, found)
    reported = np.asarray(found.residuals, np.float64)
    floor = floor_of(found, reference)
    assert np.all(np.abs(reported - explicit) <= 0.5 * explicit + floor)


def assert_converged(found, reference, tol):
    values = np.abs(np.asarray(found.eigenvalues, np.float64))
    wanted = np.maximum(tol * values, floor_of(found, reference))
    assert np.all(np.asarray(found.residuals) <= wanted)


def assert_eigenvalues(found, reference):
    """Each is within the residuals' norm of its exact value, in order."""
    values = np.asarray(found.eigenvalues, np.float64)
    assert np.all(np.diff(values) <= 0)
    explicit = zoo.explicit_residuals(reference.matrix, found)
    allowed = np.linalg.norm(explicit) + floor_of(found, reference)
    assert np.max(np.abs(values - reference.eigenvalues[: len(values)])) <= allowed


def assert_eigenspace(found, reference, tol):
    """Davis-Kahan with the residual that the tolerance allows."""
    k = len(found.eigenvalues)
    floor = floor_of(found, reference)
    wanted = np.maximum(tol * np.abs(reference.eigenvalues[:k]), floor)
    # Twice: a reported residual may be half of the explicit one
    allowed = 2 * (np.linalg.norm(wanted) + np.sqrt(k) * floor) / reference.gap(k)
    sine = zoo.largest_sine(zoo.to_rows(found.basis), reference.vectors[:k])
    assert sine <= allowed


def assert_next_eigenvalue(found, reference):
    k = len(found.eigenvalues)
    if float(found.next_residual) < np.inf:
        above = float(found.next_eigenvalue) + float(found.next_residual)
        assert above >= reference.eigenvalues[k] - floor_of(found, reference)
    else:
        assert float(found.next_residual) == np.inf


def assert_bound(found, reference):
    """The stated bound holds, up to the rounding of the basis itself."""
    k = len(found.eigenvalues)
    sine = zoo.largest_sine(zoo.to_rows(found.basis), reference.vectors[:k])
    eps = jnp.finfo(found.eigenvalues.dtype).eps
    assert float(dominant.error_bound(found)) >= sine - ROUNDING * eps


def assert_solution(found, reference, tol):
    assert_orthonormal(found)
    assert_residuals(found, reference)
    assert_converged(found, reference, tol)
    assert_eigenvalues(found, reference)
    assert_next_eigenvalue(found, reference)
    assert_bound(found, reference)
    if reference.gap(len(found.eigenvalues)) > 0:
        assert_eigenspace(found, reference, tol)
