"""How the eigensolver is called: bad input, budgets, warm starts, transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.solving import (
    ROUNDING,
    TOL,
    assert_bound,
    assert_next_eigenvalue,
    assert_orthonormal,
    assert_residuals,
    assert_solution,
    executed_by,
    floor_of,
    jitted,
    perturbed,
    solve,
)

pytestmark = pytest.mark.usefixtures("strict")


# --- bad input ---


@pytest.mark.parametrize("k", [-1, 0, zoo.SMALL + 1])
def test_k_outside_the_dimension_is_refused(k):
    matrix = jnp.asarray(zoo.matrix("gapped"), jnp.float32)
    with pytest.raises(ValueError, match="k"):
        solve(matrix, k=k, tol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_nonfinite_products_end_promptly(bad, warm):
    n, k, dtype = zoo.SMALL, zoo.K, jnp.float32
    matrix = zoo.matrix("gapped").copy()
    matrix[3, 5] = matrix[5, 3] = bad
    start = zoo.subspace(zoo.random_rows(k, n, 0), zoo.like(n, dtype)) if warm else None
    matrix = jnp.asarray(matrix, dtype)
    found, count = executed_by(lambda: jitted(matrix, start, k=k, tol=1e-3))
    assert count == int(found.num_matvecs)
    assert count <= 2
    assert not np.any(np.isfinite(found.residuals))
    assert not float(dominant.error_bound(found)) < np.inf


# --- counting and budgets ---


@pytest.mark.parametrize("name", ["gapped", "geometric", "cluster-of-4", "rank-6"])
def test_default_budget_suffices_for_common_spectra(name):
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), jnp.float32)
    found = jitted(matrix, k=zoo.K, tol=1e-3)
    assert int(found.num_matvecs) <= 20 * zoo.K + 100
    assert_solution(found, zoo.reference(matrix), 1e-3)


@pytest.mark.parametrize("name", ["gapped", "geometric", "multiplicities", "zero"])
def test_every_executed_product_is_counted(name):
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), jnp.float32)
    found, count = executed_by(lambda: jitted(matrix, k=zoo.K, tol=1e-3))
    assert count == int(found.num_matvecs) > 0


@pytest.mark.parametrize(
    ("max_matvecs", "warm"),
    [(4, False), (4, True), (13, True), (40, False)],
    ids=["4-cold", "4-warm", "13-warm", "40-cold"],
)
def test_budget_is_never_exceeded(max_matvecs, warm):
    n, k = zoo.LARGE, zoo.K
    rows = zoo.random_rows(k, n, 0)
    start = zoo.subspace(rows, zoo.like(n, jnp.float32)) if warm else None
    matrix = jnp.asarray(zoo.matrix("linear", n), jnp.float32)
    found, count = executed_by(
        lambda: jitted(matrix, start, k=k, tol=1e-6, max_matvecs=max_matvecs)
    )
    assert count == int(found.num_matvecs) <= max_matvecs
    reference = zoo.reference(matrix)
    # Too little to converge: the residuals say so, and the bound still holds
    assert np.max(np.asarray(found.residuals)) > 1e-3
    assert_orthonormal(found)
    assert_residuals(found, reference)
    assert_next_eigenvalue(found, reference)
    assert_bound(found, reference)


@pytest.mark.parametrize("turned", [0.0, 1e-3, 1e-2], ids=lambda t: f"turned={t:g}")
@pytest.mark.parametrize("name", ["gapped", "geometric", "large-negative"])
def test_warm_start_needs_fewer_products_than_cold(name, turned):
    """The matrix moves by a fraction of the gap, so that its eigenspace turns."""
    before = zoo.matrix(name, zoo.LARGE)
    after = perturbed(before, turned * zoo.reference(before).gap(zoo.K))
    after = jnp.asarray(after, jnp.float32)
    start = jitted(jnp.asarray(before, jnp.float32), k=zoo.K, tol=1e-3)
    start = jax.block_until_ready(start)
    cold, cold_count = executed_by(lambda: jitted(after, k=zoo.K, tol=1e-3))
    warm, warm_count = executed_by(lambda: jitted(after, start, k=zoo.K, tol=1e-3))
    assert warm_count == int(warm.num_matvecs)
    assert cold_count == int(cold.num_matvecs)
    assert warm_count < cold_count
    assert_solution(warm, zoo.reference(after), 1e-3)


# --- transformations ---


def test_vmap_over_problems_equals_a_loop():
    names = ("gapped", "large-negative", "plus-minus", "cluster-of-3", "rank-6")
    dtype, tol = jnp.float32, TOL["float32"]
    matrices = jnp.stack([jnp.asarray(zoo.matrix(name), dtype) for name in names])
    together = jax.vmap(lambda m: jitted(m, k=zoo.K, tol=tol))(matrices)
    for i, matrix in enumerate(matrices):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        reference = zoo.reference(matrix)
        assert_solution(member, reference, tol)
        alone = jitted(matrix, k=zoo.K, tol=tol)
        difference = np.abs(np.asarray(member.eigenvalues) - alone.eigenvalues)
        errors = np.linalg.norm(np.append(member.residuals, alone.residuals))
        assert np.max(difference) <= errors + floor_of(alone, reference)
        apart = zoo.largest_sine(zoo.to_rows(member.basis), zoo.to_rows(alone.basis))
        bounds = [float(dominant.error_bound(s)) for s in (member, alone)]
        assert apart <= sum(bounds) + 2 * ROUNDING * jnp.finfo(dtype).eps


@pytest.mark.usefixtures("x64")
def test_vmap_over_keys_equals_eigh():
    matrix = jnp.asarray(zoo.matrix("multiplicities"), jnp.float64)
    keys = jax.random.split(jax.random.key(1), 8)
    tol = TOL["float64"]
    together = jax.vmap(lambda key: jitted(matrix, None, key, k=3, tol=tol))(keys)
    for i in range(8):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_solution(member, zoo.reference(matrix), tol)


def test_warm_solves_may_be_scanned():
    """A solution has the types of the start it came from."""
    dtype = jnp.float32
    matrix = jnp.asarray(zoo.matrix("gapped"), dtype)
    first = jitted(matrix, k=zoo.K, tol=1e-3)

    @jax.jit
    def run(matrix, first):
        def step(subspace, scale):
            subspace = solve(scale * matrix, subspace, k=zoo.K, tol=1e-3)
            return subspace, subspace.eigenvalues

        return jax.lax.scan(step, first, jnp.asarray([1, 0.5, 2], dtype))

    last, eigenvalues = run(matrix, first)
    reference = zoo.reference(2 * matrix)
    assert_solution(last, reference, 1e-3)
    halves = np.asarray(eigenvalues, np.float64) / np.array([[1], [0.5], [2]])
    assert np.max(np.abs(halves - reference.eigenvalues[:4] / 2)) <= 1e-3 * 10


def test_different_keys_give_the_same_space():
    matrix = jnp.asarray(zoo.matrix("gapped"), jnp.float32)
    tol = TOL["float32"]
    for seed in range(3):
        found = jitted(matrix, None, jax.random.key(seed), k=zoo.K, tol=tol)
        assert_solution(found, zoo.reference(matrix), tol)
