"""Lanczos by its defining equation, and against a textbook dense iteration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo

pytestmark = pytest.mark.usefixtures("strict")

ROUNDING = 10  # multiples of eps (times the norm of the matrix, for products)

PROBLEMS = (
    "gapped",
    "cluster-across",
    "geometric",
    "rank-6",
    "identity",
    "zero",
    "multiplicities",
    "large-negative",
    "ring",
)


@functools.partial(jax.jit, static_argnames="num_steps")
def run(matrix, start, *, num_steps):
    return dominant.tridiagonalize(zoo.matvec(matrix), start, num_steps)


def start_vector(n, dtype, seed=0):
    vector = np.random.default_rng(seed).standard_normal(n)
    return zoo.to_tree(vector, zoo.like(n, dtype))


def dense_tridiagonal(result):
    diagonal = np.asarray(result.diagonal, np.float64)
    off = np.asarray(result.off_diagonal, np.float64)
    return np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)


def assert_defining_equation(result, reference, dtype):
    """A Q^T = Q^T T + r e_m^T with r orthogonal to Q and |r| as reported."""
    q = zoo.to_rows(result.basis)
    remainder = reference.matrix @ q.T - q.T @ dense_tridiagonal(result)
    floor = ROUNDING * jnp.finfo(dtype).eps * reference.norm
    assert np.max(np.linalg.norm(remainder[:, :-1], axis=0), initial=0.0) <= floor
    last = remainder[:, -1]
    assert abs(np.linalg.norm(last) - float(result.residual_norm)) <= floor
    assert np.linalg.norm(q @ last) <= floor


@pytest.mark.parametrize("scale", zoo.SCALES, ids=lambda s: f"scale={s:g}")
@pytest.mark.parametrize("name", PROBLEMS)
def test_defining_equation_and_orthonormality(name, scale, dtype):
    matrix = jnp.asarray(zoo.matrix(name, zoo.SMALL, scale), dtype)
    result = run(matrix, start_vector(zoo.SMALL, dtype), num_steps=12)
    assert result.diagonal.shape == (12,)
    assert result.off_diagonal.shape == (11,)
    assert result.residual_norm.shape == ()
    assert np.all(np.asarray(result.off_diagonal) >= 0)
    assert_defining_equation(result, zoo.reference(matrix), dtype)
    # After a breakdown a row is either a fresh unit vector or zero
    gram = zoo.to_rows(result.basis) @ zoo.to_rows(result.basis).T
    eps = jnp.finfo(dtype).eps
    present = np.diag(gram) > 0.5
    assert np.max(np.abs(gram - np.diag(present))) <= ROUNDING * eps
    if name not in ("identity", "zero", "rank-6", "multiplicities"):
        assert np.all(present)


@pytest.mark.parametrize("name", ["gapped", "geometric", "large-negative"])
def test_orthonormal_after_many_converged_steps(name, dtype):
    """Where one Gram-Schmidt pass, or none, would have lost it."""
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), dtype)
    result = run(matrix, start_vector(zoo.LARGE, dtype), num_steps=120)
    q = zoo.to_rows(result.basis)
    eps = jnp.finfo(dtype).eps
    assert np.max(np.abs(q @ q.T - np.eye(120))) <= ROUNDING * eps
    assert_defining_equation(result, zoo.reference(matrix), dtype)


def test_basis_has_the_structure_of_the_start(dtype):
    start = start_vector(zoo.SMALL, dtype)
    result = run(jnp.asarray(zoo.matrix("gapped"), dtype), start, num_steps=12)
    assert jax.tree.structure(result.basis) == jax.tree.structure(start)
    shapes = jax.tree.map(lambda leaf: (12, *leaf.shape), start)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, result.basis)


@pytest.mark.parametrize("length", [1e-15, 1.0, 1e15])
def test_first_vector_is_the_normalized_start(length, dtype):
    start = start_vector(zoo.SMALL, dtype)
    start = jax.tree.map(lambda leaf: leaf * jnp.asarray(length, dtype), start)
    result = run(jnp.asarray(zoo.matrix("gapped"), dtype), start, num_steps=12)
    vector = zoo.to_vector(start)
    first = zoo.to_rows(result.basis)[0]
    error = np.linalg.norm(first - vector / np.linalg.norm(vector))
    assert error <= ROUNDING * jnp.finfo(dtype).eps


def textbook_lanczos(matrix, vector, num_steps):
    """The three-term recurrence with explicit full reorthogonalization."""
    q = [vector / np.linalg.norm(vector)]
    diagonal, off = [], []
    for _ in range(num_steps):
        w = matrix @ q[-1]
        diagonal.append(q[-1] @ w)
        for _ in range(3):
            for row in q:
                w = w - row * (row @ w)
        off.append(np.linalg.norm(w))
        q.append(w / off[-1])
    return np.array(diagonal), np.array(off)


@pytest.mark.parametrize("name", ["gapped", "linear", "plus-minus"])
@pytest.mark.usefixtures("x64")
def test_coefficients_equal_the_textbook_recurrence(name):
    matrix = zoo.matrix(name)
    start = start_vector(zoo.SMALL, jnp.float64)
    result = run(jnp.asarray(matrix), start, num_steps=8)
    diagonal, off = textbook_lanczos(matrix, zoo.to_vector(start), 8)
    # T is unique; its condition grows with the product of norm / off_diagonal
    growth = np.prod(np.maximum(1.0, zoo.reference(matrix).norm / off))
    tolerance = ROUNDING * np.finfo(np.float64).eps * growth * np.max(np.abs(diagonal))
    assert tolerance < 1e-6
    assert np.max(np.abs(np.asarray(result.diagonal) - diagonal)) <= tolerance
    assert np.max(np.abs(np.asarray(result.off_diagonal) - off[:-1])) <= tolerance
    assert abs(float(result.residual_norm) - off[-1]) <= tolerance


@pytest.mark.parametrize("name", ["gapped", "geometric", "large-negative"])
def test_full_dimension_gives_every_eigenvalue(name, dtype):
    matrix = jnp.asarray(zoo.matrix(name), dtype)
    n = zoo.SMALL
    result = run(matrix, start_vector(n, dtype), num_steps=n)
    reference = zoo.reference(matrix)
    found = np.linalg.eigvalsh(dense_tridiagonal(result))[::-1]
    floor = ROUNDING * jnp.finfo(dtype).eps * reference.norm
    assert np.max(np.abs(found - reference.eigenvalues)) <= floor
    assert float(result.residual_norm) <= floor


@pytest.mark.parametrize("wanted", [(0,), (0, 1, 2), (0, 5, 30)], ids=str)
@pytest.mark.parametrize("scale", zoo.SCALES, ids=lambda s: f"scale={s:g}")
def test_breakdown_in_an_invariant_subspace(wanted, scale, dtype):
    matrix = jnp.asarray(zoo.matrix("gapped", zoo.SMALL, scale), dtype)
    reference = zoo.reference(matrix)
    wanted = list(wanted)
    start = zoo.to_tree(reference.vectors[wanted].sum(axis=0), start_vector(31, dtype))
    result = run(matrix, start, num_steps=12)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result))
    assert_defining_equation(result, reference, dtype)
    m = len(wanted)
    floor = 10 * ROUNDING * jnp.finfo(dtype).eps * reference.norm
    # The start leaves the invariant subspace by its rounding and that of eigh; each
    # step before the breakdown multiplies this by norm / off_diagonal.
    off = np.asarray(result.off_diagonal[: m - 1], np.float64)
    growth = np.prod(np.maximum(1.0, reference.norm / off))
    coupling = ROUNDING * jnp.finfo(dtype).eps * reference.norm * growth
    assert coupling < 1e-3 * reference.norm
    assert float(result.off_diagonal[m - 1]) <= coupling
    found = np.linalg.eigvalsh(dense_tridiagonal(result)[:m, :m])[::-1]
    assert np.max(np.abs(found - reference.eigenvalues[wanted])) <= floor


def test_residual_vanishes_when_the_last_step_breaks_down(dtype):
    matrix = jnp.asarray(zoo.matrix("identity"), dtype)
    result = run(matrix, start_vector(zoo.SMALL, dtype), num_steps=1)
    assert result.off_diagonal.shape == (0,)
    eps = jnp.finfo(dtype).eps
    assert abs(float(result.diagonal[0]) - 1.0) <= ROUNDING * eps
    assert float(result.residual_norm) <= ROUNDING * eps


def test_vmap_over_starts_equals_a_loop(dtype):
    matrix = jnp.asarray(zoo.matrix("linear"), dtype)
    starts = [start_vector(zoo.SMALL, dtype, seed) for seed in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    together = jax.vmap(lambda start: run(matrix, start, num_steps=6))(stacked)
    reference = zoo.reference(matrix)
    for i, start in enumerate(starts):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_defining_equation(member, reference, dtype)
        alone = run(matrix, start, num_steps=6)
        off = np.append(alone.off_diagonal, alone.residual_norm)
        growth = np.prod(np.maximum(1.0, reference.norm / off.astype(np.float64)))
        tolerance = ROUNDING * jnp.finfo(dtype).eps * growth
        assert tolerance < 0.1
        for field in ("diagonal", "off_diagonal", "residual_norm"):
            one, other = getattr(member, field), getattr(alone, field)
            assert np.max(np.abs(one - other)) <= tolerance * reference.norm


def test_without_jit_equals_jit(dtype):
    matrix = jnp.asarray(zoo.matrix("gapped"), dtype)
    start = start_vector(zoo.SMALL, dtype)
    result = dominant.tridiagonalize(zoo.matvec(matrix), start, 4)
    assert_defining_equation(result, zoo.reference(matrix), dtype)
    jitted = run(matrix, start, num_steps=4)
    # Four steps amplify rounding by little
    tolerance = 10 * ROUNDING * jnp.finfo(dtype).eps * zoo.reference(matrix).norm
    difference = dense_tridiagonal(result) - dense_tridiagonal(jitted)
    assert np.max(np.abs(difference)) <= tolerance


@pytest.mark.parametrize("num_steps", [-1, 0, zoo.SMALL + 1])
def test_number_of_steps_is_checked(num_steps):
    matrix = jnp.asarray(zoo.matrix("gapped"), jnp.float32)
    start = start_vector(zoo.SMALL, jnp.float32)
    with pytest.raises(ValueError, match="num_steps"):
        dominant.tridiagonalize(zoo.matvec(matrix), start, num_steps)
