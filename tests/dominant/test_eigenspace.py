"""The eigensolver against `eigh`, and its error bound against the true error."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import dominant
from dominant import eigenspace
from tests.dominant import networks, zoo

pytestmark = pytest.mark.usefixtures("strict")

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


# --- the zoo ---


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


@pytest.mark.parametrize("name", ["gapped", "geometric", "cluster-of-4", "rank-6"])
def test_default_budget_suffices_for_common_spectra(name):
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), jnp.float32)
    found = jitted(matrix, k=zoo.K, tol=1e-3)
    assert int(found.num_matvecs) <= 20 * zoo.K + 100
    assert_solution(found, zoo.reference(matrix), 1e-3)


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
    found, count = executed_by(
        lambda: jitted(
            jnp.asarray(matrix, dtype), start, k=k, tol=1e-3, max_matvecs=5000
        )
    )
    assert count == int(found.num_matvecs)
    assert count <= 20 * k + 100
    assert not np.any(np.isfinite(found.residuals))
    assert not float(dominant.error_bound(found)) < np.inf


# --- counting and budgets ---


@pytest.mark.parametrize("name", ["gapped", "geometric", "multiplicities", "zero"])
def test_every_executed_product_is_counted(name):
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), jnp.float32)
    found, count = executed_by(lambda: jitted(matrix, k=zoo.K, tol=1e-3))
    assert count == int(found.num_matvecs) > 0


@pytest.mark.parametrize("max_matvecs", [4, 13, 40])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
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


def perturbed(matrix, size, seed=0):
    """Add a random symmetric matrix of this spectral norm."""
    noise = np.random.default_rng(seed).standard_normal(matrix.shape)
    noise = (noise + noise.T) / 2
    return matrix + size * noise / np.linalg.norm(noise, 2)


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


def test_same_call_gives_the_same_bits(dtype):
    matrix = jnp.asarray(zoo.matrix("geometric", zoo.LARGE), dtype)
    options = {"k": zoo.K, "tol": 1e-3, "max_matvecs": BUDGET[zoo.LARGE]}
    one, other = (jitted(matrix, **options) for _ in range(2))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_different_keys_give_the_same_space():
    matrix = jnp.asarray(zoo.matrix("gapped"), jnp.float32)
    tol = TOL["float32"]
    for seed in range(3):
        found = jitted(matrix, None, jax.random.key(seed), k=zoo.K, tol=tol)
        assert_solution(found, zoo.reference(matrix), tol)


# --- properties over random spectra ---

N = 32


@st.composite
def spectra(draw, k):
    """Spectra with trouble at the cut: clusters, tiny gaps, repetitions, signs."""
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    bulk = draw(st.sampled_from(["uniform", "geometric", "zero", "negative", "steps"]))
    rest = {
        "uniform": lambda: rng.uniform(-1, 1, N),
        "geometric": lambda: np.geomspace(1, 1e-4, N),
        "zero": lambda: np.zeros(N),
        "negative": lambda: rng.uniform(-100, 0, N),
        "steps": lambda: np.repeat(rng.uniform(-1, 1, N // 4), 4),
    }[bulk]()
    rest = np.sort(rest)[::-1]
    gap = draw(st.sampled_from([0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2, 0.3, 3.0]))
    spread = draw(st.sampled_from([0.0, 1e-10, 1e-6, 1e-3, 1.0, 10.0]))
    # k eigenvalues, the next one at least `gap` below them, and the rest
    lowest = rest[0] + draw(st.sampled_from([0.0, 1e-5, 0.1, 2.0]))
    top = lowest + gap + spread * rng.uniform(0, 1, k)
    values = np.sort(np.concatenate([top, [lowest], rest[: N - k - 1]]))[::-1]
    norm = draw(st.sampled_from(zoo.SCALES))
    return norm * values / (np.max(np.abs(values)) or 1.0), seed


STARTS = ("exact", "missed-first", "missed-last", "bulk", "random", "perturbed")


def start_rows(kind, vectors, k, seed):
    """An orthonormal start: right, or trapped in a wrong invariant subspace."""
    n = len(vectors)
    if kind == "perturbed":
        noisy = vectors[:k] + 1e-3 * zoo.random_rows(k, n, seed)
        return np.linalg.qr(noisy.T)[0].T
    return {
        "exact": vectors[:k],
        "missed-first": vectors[1 : k + 1],
        "missed-last": np.delete(vectors[: k + 1], k - 1, axis=0),
        "bulk": vectors[-k:],
        "random": zoo.random_rows(k, n, seed),
    }[kind]


def tree_of(dtype):
    return {"large": jnp.zeros((9, 3), dtype), "small": jnp.zeros((5,), dtype)}


@functools.partial(jax.jit, static_argnames=("k", "tol", "max_matvecs"))
def solve_two_leaves(matrix, start, *, k, tol, max_matvecs):
    matvec, like = zoo.matvec(matrix), tree_of(matrix.dtype)
    return dominant.top_eigenspace(
        matvec, like, k, start=start, tol=tol, max_matvecs=max_matvecs
    )


properties = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    # No shrinking: an example is a seed, and one seed is as simple as another
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
OPTIONS = pytest.mark.parametrize(
    ("k", "tol", "max_matvecs", "precision"),
    [
        (1, 1e-1, None, "float32"),
        (3, 1e-6, None, "float64"),
        (3, 3e-1, 12, "float32"),
        (5, 1e-3, 24, "float32"),
    ],
)


def solve_random_problem(data, k, tol, max_matvecs, precision):
    """A problem and its solution, from a cold start or one of `STARTS`."""
    values, seed = data.draw(spectra(k))
    matrix = jnp.asarray(zoo.with_spectrum(values, seed), precision)
    reference = zoo.reference(matrix)
    kind = data.draw(st.sampled_from(("cold", *STARTS)))
    start = None
    if kind != "cold":
        # What a start says of its eigenvalues is of another matrix: it may be wrong
        lie = data.draw(st.sampled_from([-np.inf, -1e3, 0.0]))
        start = zoo.subspace(
            start_rows(kind, reference.vectors, k, seed),
            tree_of(precision),
            eigenvalues=values[:k],
            next_eigenvalue=lie,
        )
    found = solve_two_leaves(matrix, start, k=k, tol=tol, max_matvecs=max_matvecs)
    return found, reference


@OPTIONS
@properties
@hypothesis.given(data=st.data())
def test_error_bound_holds_for_any_spectrum(k, tol, max_matvecs, precision, data):
    with jax.enable_x64(precision == "float64"):
        found, reference = solve_random_problem(data, k, tol, max_matvecs, precision)
        assert_next_eigenvalue(found, reference)
        assert_bound(found, reference)


@OPTIONS
@properties
@hypothesis.given(data=st.data())
def test_residuals_are_true_for_any_spectrum(k, tol, max_matvecs, precision, data):
    with jax.enable_x64(precision == "float64"):
        found, reference = solve_random_problem(data, k, tol, max_matvecs, precision)
        assert_orthonormal(found)
        assert_residuals(found, reference)


@OPTIONS
@properties
@hypothesis.given(data=st.data())
def test_solve_that_stops_early_has_found_the_top(k, tol, max_matvecs, precision, data):
    """While products are left, a converged but wrong eigenvalue is no answer."""
    with jax.enable_x64(precision == "float64"):
        found, reference = solve_random_problem(data, k, tol, max_matvecs, precision)
        budget = 20 * k + 100 if max_matvecs is None else max_matvecs
        hypothesis.assume(int(found.num_matvecs) < budget)
        assert_converged(found, reference, tol)
        exact = reference.eigenvalues[:k]
        # Kahan: the residuals' norm bounds the errors, where no eigenvalue is missing
        allowed = np.linalg.norm(tol * exact) + np.sqrt(k) * floor_of(found, reference)
        values = np.asarray(found.eigenvalues, np.float64)
        assert np.max(np.abs(values - exact)) <= allowed


@pytest.mark.parametrize(
    ("top", "k", "tol", "max_matvecs", "kind"),
    [
        ([1.0, 0.87], 1, 1e-1, None, "cold"),
        ([1.0, 1.0, 1.0, 0.25], 3, 3e-1, 12, "bulk"),
    ],
    ids=["rank-2", "start-in-the-kernel"],
)
def test_bound_holds_where_the_krylov_space_ends(top, k, tol, max_matvecs, kind):
    """Low rank: the next directions are drawn anew, and couple to what was found."""
    for seed in range(60):
        values = np.concatenate([top, np.zeros(N - len(top))])
        matrix = jnp.asarray(zoo.with_spectrum(values, seed), jnp.float32)
        reference = zoo.reference(matrix)
        start = None
        if kind != "cold":
            rows = start_rows(kind, reference.vectors, k, seed)
            start = zoo.subspace(rows, tree_of(jnp.float32))
        found = solve_two_leaves(matrix, start, k=k, tol=tol, max_matvecs=max_matvecs)
        assert_residuals(found, reference)
        assert_bound(found, reference)


@pytest.mark.parametrize("scale", [1e-12, 1e12], ids=lambda s: f"scale={s:g}")
def test_scales_far_from_one(scale):
    """The squares of residuals of this size are close to the end of float32."""
    matrix = jnp.asarray(zoo.matrix("gapped", zoo.SMALL, scale), jnp.float32)
    found = jitted(matrix, k=zoo.K, tol=1e-3, max_matvecs=BUDGET[zoo.SMALL])
    assert_solution(found, zoo.reference(matrix), 1e-3)


@pytest.mark.parametrize("start", ["missed-first", "missed-last", "bulk"])
@pytest.mark.parametrize("name", ["gapped", "large-negative"])
def test_solver_escapes_a_wrong_invariant_subspace(name, start):
    """The start has residual zero, and still is not the answer."""
    matrix = jnp.asarray(zoo.matrix(name, zoo.LARGE), jnp.float32)
    reference = zoo.reference(matrix)
    rows = start_rows(start, reference.vectors, zoo.K, 0)
    start = zoo.subspace(rows, zoo.like(zoo.LARGE, jnp.float32))
    found = jitted(matrix, start, k=zoo.K, tol=1e-3)
    assert_solution(found, reference, 1e-3)


# --- the stated probability ---

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
    monkeypatch.setattr(eigenspace, "FAILURE_PROBABILITY", stated)
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
