"""The eigensolver against `eigh`, and its error bound against the true error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo
from tests.dominant.solving import (
    BUDGET,
    ROUNDING,
    TOL,
    assert_converged,
    assert_eigenvalues,
    assert_orthonormal,
    assert_residuals,
    assert_solution,
    executed_by,
    floor_of,
    jitted,
    solve,
)

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("scale", zoo.SCALES, ids=lambda s: f"scale={s:g}")
@pytest.mark.parametrize("name", zoo.SPECTRA)
def test_small_problem_equals_eigh(name, scale, dtype):
    matrix = jnp.asarray(zoo.matrix(name, zoo.SMALL, scale), dtype)
    tol = TOL[dtype.name]
    found = jitted(matrix, k=zoo.K, tol=tol, max_matvecs=BUDGET[zoo.SMALL])
    assert_solution(found, zoo.reference(matrix), tol)


@pytest.mark.parametrize("name", zoo.SPECTRA)
def test_large_problem_equals_eigh(name, dtype):
    """Here the Krylov space stays far below the full dimension."""
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), dtype)
    tol = 1e-3
    found = jitted(matrix, k=zoo.K, tol=tol, max_matvecs=BUDGET[zoo.LARGE])
    assert_solution(found, zoo.reference(matrix), tol)


@pytest.mark.usefixtures("x64")
def test_without_jit_equals_eigh():
    matrix = jnp.asarray(zoo.matrix("multiplicities", zoo.SMALL), jnp.float64)
    tol = TOL["float64"]
    found, count = executed_by(lambda: solve(matrix, k=zoo.K, tol=tol))
    assert_solution(found, zoo.reference(matrix), tol)
    assert count == int(found.num_matvecs)


@pytest.mark.parametrize("name", ["gapped", "cluster-of-2", "large-negative", "ring"])
def test_one_eigenpair(name):
    matrix = jnp.asarray(zoo.matrix(name, zoo.SMALL), jnp.float32)
    tol = TOL["float32"]
    found = jitted(matrix, k=1, tol=tol)
    assert_solution(found, zoo.reference(matrix), tol)


@pytest.mark.parametrize("name", ["gapped", "large-negative", "identity", "rank-2"])
@pytest.mark.usefixtures("x64")
def test_every_eigenpair(name):
    """With k = n there is no next eigenvalue, and the space is exact."""
    matrix = jnp.asarray(zoo.matrix(name, zoo.SMALL), jnp.float64)
    found = jitted(matrix, k=zoo.SMALL, tol=TOL["float64"], max_matvecs=900)
    reference = zoo.reference(matrix)
    assert_orthonormal(found)
    assert_residuals(found, reference)
    assert_converged(found, reference, TOL["float64"])
    assert_eigenvalues(found, reference)
    assert not np.isnan(float(dominant.error_bound(found)))


def test_same_call_gives_the_same_bits(dtype):
    matrix = jnp.asarray(zoo.matrix("geometric", zoo.LARGE), dtype)
    options = {"k": zoo.K, "tol": 1e-3, "max_matvecs": BUDGET[zoo.LARGE]}
    one, other = (jitted(matrix, **options) for _ in range(2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n", [zoo.SMALL, zoo.LARGE])
def test_negative_eigenvalues_of_large_magnitude_stay_out(n, dtype):
    matrix = jnp.asarray(zoo.matrix("large-negative", n), dtype)
    found = jitted(
        matrix,
        k=zoo.K,
        tol=TOL[dtype.name] if n == zoo.SMALL else 1e-3,
        max_matvecs=BUDGET[n],
    )
    assert np.all(np.asarray(found.eigenvalues) > 0)
    negative = zoo.reference(matrix).vectors[-2:]
    share = np.linalg.norm(negative @ zoo.to_rows(found.basis).T, 2)
    # residual >= (lambda_i - lambda_j) * share, with |lambda_i - lambda_j| >= 53
    allowed = np.linalg.norm(
        zoo.explicit_residuals(zoo.reference(matrix).matrix, found)
    )
    assert share <= allowed / 53 + ROUNDING * jnp.finfo(dtype).eps


@pytest.mark.parametrize("name", zoo.UNDEFINED_CUT)
@pytest.mark.parametrize("n", [zoo.SMALL, zoo.LARGE])
def test_cut_through_a_repeated_eigenvalue_is_reported(name, n, dtype):
    matrix = jnp.asarray(zoo.matrix(name, n), dtype)
    tol = TOL[dtype.name] if n == zoo.SMALL else 1e-3
    found = jitted(matrix, k=zoo.K, tol=tol, max_matvecs=BUDGET[n])
    assert float(dominant.error_bound(found)) >= 1.0


@pytest.mark.parametrize("n", [zoo.SMALL, zoo.LARGE])
def test_bound_is_useful_where_the_gap_is_wide(n, dtype):
    matrix = jnp.asarray(zoo.matrix("gapped", n), dtype)
    tol = TOL[dtype.name] if n == zoo.SMALL else 1e-3
    found = jitted(matrix, k=zoo.K, tol=tol, max_matvecs=BUDGET[n])
    reference = zoo.reference(matrix)
    above = float(found.next_eigenvalue) + float(found.next_residual)
    assert above <= reference.eigenvalues[zoo.K] + 2 / 3 * reference.gap(zoo.K)
    allowed = np.linalg.norm(tol * reference.eigenvalues[: zoo.K])
    floor = floor_of(found, reference)
    bound = float(dominant.error_bound(found))
    assert bound <= 3 * (allowed + 10 * floor) / reference.gap(zoo.K)


@pytest.mark.parametrize("scale", [1e-12, 1e12], ids=lambda s: f"scale={s:g}")
def test_scales_far_from_one(scale):
    """The squares of residuals of this size are close to the end of float32."""
    matrix = jnp.asarray(zoo.matrix("gapped", zoo.SMALL, scale), jnp.float32)
    found = jitted(matrix, k=zoo.K, tol=1e-3, max_matvecs=BUDGET[zoo.SMALL])
    assert_solution(found, zoo.reference(matrix), 1e-3)


# --- networks ---


def test_hessian_of_a_network_equals_eigh(dtype):
    name = {"float32": "tanh-squared", "float64": "relu-softmax"}[dtype.name]
    problem = networks.network(name)
    params, data = zoo.cast(problem.params, dtype), zoo.cast(problem.data, dtype)
    hessian = dominant.hessian(problem.loss_fn)
    tol = TOL[dtype.name]

    @jax.jit
    def run(params, data):
        return dominant.top_eigenspace(hessian(params, data), params, 3, tol=tol)

    found = run(params, data)
    assert jax.tree.structure(found.basis) == jax.tree.structure(params)
    reference = zoo.reference(networks.curvatures(name).hessian)
    # The product's own rounding: a forward and a reverse pass through the network
    exact = reference.eigenvalues[:3]
    error = np.abs(np.asarray(found.eigenvalues, np.float64) - exact)
    allowed = np.linalg.norm(np.asarray(found.residuals, np.float64))
    assert np.max(error) <= allowed + 3 * floor_of(found, reference)
    assert_orthonormal(found)
    sine = zoo.largest_sine(zoo.to_rows(found.basis), reference.vectors[:3])
    floor = 3 * floor_of(found, reference) / max(reference.gap(3), 1e-300)
    assert sine <= float(dominant.error_bound(found)) + floor


def test_integer_leaves_cost_no_basis():
    dtype = jnp.float32
    problem = networks.network("tanh-squared")
    net, data = zoo.cast(problem.params, dtype), zoo.cast(problem.data, dtype)
    params = {"count": jnp.arange(5), "net": net}
    hessian = dominant.hessian(lambda p, d: problem.loss_fn(p["net"], d))

    def run(params, data, k=2):
        return dominant.top_eigenspace(hessian(params, data), params, k, tol=1e-3)

    found = jax.jit(run)(params, data)
    assert found.basis["count"] is None
    exact = zoo.reference(networks.curvatures("tanh-squared").hessian).eigenvalues[:2]
    error = np.abs(np.asarray(found.eigenvalues, np.float64) - exact)
    eps = jnp.finfo(dtype).eps
    residuals = np.linalg.norm(np.asarray(found.residuals, np.float64))
    assert np.max(error) <= residuals + 3 * ROUNDING * eps * exact[0]
    n = sum(leaf.size for leaf in jax.tree.leaves(net))
    with pytest.raises(ValueError, match="k"):
        run(params, data, n + 1)


def test_basis_of_half_precision_parameters_is_float32():
    def loss_fn(params, data):
        stretched = params["a"] * data[0]
        return jnp.sum(jnp.square(stretched)).astype(jnp.float32)

    params = {"a": jnp.ones(6, jnp.bfloat16)}
    data = jnp.asarray([[8, 4, 2, 1, 0.5, 0.25]], jnp.bfloat16)

    @jax.jit
    def run(params, data):
        matvec = dominant.hessian(loss_fn)(params, data)
        return dominant.top_eigenspace(matvec, params, 2)

    found = run(params, data)
    assert found.basis["a"].dtype == jnp.float32
    assert found.eigenvalues.dtype == jnp.float32
    half = float(jnp.finfo(jnp.bfloat16).eps)
    assert np.max(np.abs(np.asarray(found.eigenvalues) - [128, 32])) <= 128 * half
