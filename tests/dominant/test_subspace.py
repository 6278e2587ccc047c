"""Projections, alignment and angles: identities and dense references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

import dominant
from tests.dominant import zoo

pytestmark = pytest.mark.usefixtures("strict")

ROUNDING = 10  # multiples of eps
N, K = zoo.SMALL, 4


def subspace_of(dtype, k=K, n=N, seed=0, **fields):
    return zoo.subspace(zoo.random_rows(k, n, seed), zoo.like(n, dtype), **fields)


def vector_tree(dtype, seed=0, n=N):
    vector = np.random.default_rng(seed).standard_normal(n)
    return zoo.to_tree(vector, zoo.like(n, dtype))


def eps_of(dtype):
    return float(jnp.finfo(dtype).eps)


# --- projections ---


@pytest.mark.parametrize("jit", [True, False], ids=["jit", "nojit"])
@pytest.mark.parametrize("k", [1, K, N])
def test_project_and_reject_equal_the_dense_projection(k, jit, dtype):
    subspace, v = subspace_of(dtype, k), vector_tree(dtype)
    rows, vector = zoo.to_rows(subspace.basis), zoo.to_vector(v)
    dense = {"project": rows.T @ (rows @ vector)}
    dense["reject"] = vector - dense["project"]
    for name, expected in dense.items():
        function = getattr(dominant, name)
        found = (jax.jit(function) if jit else function)(v, subspace)
        assert jax.tree.structure(found) == jax.tree.structure(v)
        error = np.linalg.norm(zoo.to_vector(found) - expected)
        assert error <= ROUNDING * eps_of(dtype) * np.linalg.norm(vector)


def dense_projection(function, subspace, dtype):
    return zoo.dense(lambda v: function(v, subspace), zoo.like(N, dtype))


def test_projections_are_complementary_orthogonal_projections(dtype):
    subspace = subspace_of(dtype)
    p = dense_projection(dominant.project, subspace, dtype)
    q = dense_projection(dominant.reject, subspace, dtype)
    identities = {
        "P^2 = P": p @ p - p,
        "Q^2 = Q": q @ q - q,
        "P + Q = I": p + q - np.eye(N),
        "PQ = 0": p @ q,
        "P = P^T": p - p.T,
        "Q = Q^T": q - q.T,
    }
    for identity, error in identities.items():
        assert np.linalg.norm(error, 2) <= ROUNDING * eps_of(dtype), identity
    assert abs(np.trace(p) - K) <= ROUNDING * K * eps_of(dtype)


def test_projecting_the_rejected_part_gives_nothing(dtype):
    subspace, v = subspace_of(dtype), vector_tree(dtype)
    rest = dominant.project(dominant.reject(v, subspace), subspace)
    length = np.linalg.norm(zoo.to_vector(v))
    assert np.linalg.norm(zoo.to_vector(rest)) <= ROUNDING * eps_of(dtype) * length


def test_projections_do_not_depend_on_the_choice_of_basis(dtype):
    rows = zoo.random_rows(3, N, 0)
    rotation = Rotation.from_euler("xyz", [0.3, -1.2, 2.0]).as_matrix()
    v = vector_tree(dtype)
    one, other = (
        zoo.subspace(basis, zoo.like(N, dtype)) for basis in (rows, rotation @ rows)
    )
    allowed = ROUNDING * eps_of(dtype) * np.linalg.norm(zoo.to_vector(v))
    for function in (dominant.project, dominant.reject):
        found = zoo.to_vector(function(v, one)) - zoo.to_vector(function(v, other))
        assert np.linalg.norm(found) <= allowed
    difference = dominant.alignment(v, one) - dominant.alignment(v, other)
    assert abs(float(difference)) <= ROUNDING * eps_of(dtype)


@pytest.mark.parametrize("function", [dominant.project, dominant.reject])
def test_projections_keep_the_dtypes_of_the_tree(function):
    """Mixed precision in, the same out; the arithmetic itself is wider."""
    v = vector_tree(jnp.float32)
    v["head"] = v["head"].astype(jnp.bfloat16)
    subspace = subspace_of(jnp.float32)
    found = function(v, subspace)
    before = jax.tree.map(lambda leaf: leaf.dtype, v)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == before
    rows, vector = zoo.to_rows(subspace.basis), zoo.to_vector(v)
    inside = rows.T @ (rows @ vector)
    expected = inside if function is dominant.project else vector - inside
    # Only the result is rounded to half precision
    error = np.abs(zoo.to_vector(found) - expected)
    half = float(jnp.finfo(jnp.bfloat16).eps) * np.abs(expected)
    assert np.all(
        error <= half + ROUNDING * eps_of(jnp.float32) * np.max(np.abs(vector))
    )


def test_projections_may_be_vmapped_over_both_arguments(dtype):
    subspaces = [subspace_of(dtype, seed=seed) for seed in range(3)]
    vectors = [vector_tree(dtype, seed) for seed in range(3)]
    stacked = (jax.tree.map(lambda *x: jnp.stack(x), *s) for s in (vectors, subspaces))
    together = jax.jit(jax.vmap(dominant.project))(*stacked)
    for i, row in enumerate(zoo.to_rows(together)):
        rows, vector = zoo.to_rows(subspaces[i].basis), zoo.to_vector(vectors[i])
        error = np.linalg.norm(row - rows.T @ (rows @ vector))
        assert error <= ROUNDING * eps_of(dtype) * np.linalg.norm(vector)


# --- leaves without a basis, and mismatches ---


def partial_subspace(dtype):
    """A basis on the leaf "a" alone, of a tree with the leaves "a" and "b"."""
    like = {"a": jnp.zeros((3, 2), dtype), "b": jnp.zeros((4,), dtype)}
    subspace = zoo.subspace(zoo.random_rows(2, 6, 0), {"a": like["a"], "b": None})
    v = zoo.to_tree(np.random.default_rng(1).standard_normal(10), like)
    return subspace, v


def test_leaf_without_basis_is_outside_the_subspace(dtype):
    subspace, v = partial_subspace(dtype)
    inside, outside = dominant.project(v, subspace), dominant.reject(v, subspace)
    np.testing.assert_array_equal(inside["b"], np.zeros(4))
    np.testing.assert_array_equal(outside["b"], v["b"])
    assert inside["b"].dtype == v["b"].dtype
    rows, vector = zoo.to_rows(subspace.basis), zoo.to_vector({"a": v["a"]})
    expected = rows.T @ (rows @ vector)
    allowed = ROUNDING * eps_of(dtype) * np.linalg.norm(vector)
    assert np.linalg.norm(zoo.to_vector(inside["a"]) - expected) <= allowed
    assert np.linalg.norm(zoo.to_vector(outside["a"]) - vector + expected) <= allowed


def test_alignment_counts_the_leaf_without_basis_in_the_length(dtype):
    subspace, v = partial_subspace(dtype)
    inside = np.linalg.norm(zoo.to_vector(dominant.project(v, subspace)))
    expected = inside / np.linalg.norm(zoo.to_vector(v))
    found = float(dominant.alignment(v, subspace))
    assert abs(found - expected) <= ROUNDING * eps_of(dtype)


@pytest.mark.parametrize(
    "function", [dominant.project, dominant.reject, dominant.alignment]
)
@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"a": (3, 2), "extra": (4,)}, "extra|b"),
        ({"a": (3, 2)}, "b"),
        ({"a": (3, 2), "b": (4,), "extra": (1,)}, "extra"),
        ({"a": (3, 2), "b": (5,)}, "b"),
        ({"a": (2, 3), "b": (4,)}, "a"),
    ],
    ids=["renamed", "missing", "extra", "size", "shape"],
)
def test_mismatched_tree_is_refused_by_name(function, tree, named):
    like = {"a": jnp.zeros((3, 2)), "b": jnp.zeros((4,))}
    subspace = zoo.subspace(zoo.random_rows(2, 10, 0), like)
    v = {key: jnp.ones(shape) for key, shape in tree.items()}
    with pytest.raises(ValueError, match=rf"\b({named})\b"):
        function(v, subspace)


# --- alignment ---


def test_alignment_is_a_ratio_of_norms(dtype):
    """3 inside and 4 outside: chi is 3/5, not 9/25."""
    rows = zoo.random_rows(2, N, 0)
    subspace = zoo.subspace(rows[:1], zoo.like(N, dtype))
    v = zoo.to_tree(3 * rows[0] + 4 * rows[1], zoo.like(N, dtype))
    found = float(dominant.alignment(v, subspace))
    assert abs(found - 0.6) <= ROUNDING * eps_of(dtype)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_alignment_does_not_depend_on_scale(scale, dtype):
    subspace, v = subspace_of(dtype), vector_tree(dtype)
    scaled = jax.tree.map(lambda leaf: leaf * jnp.asarray(scale, dtype), v)
    rows, vector = zoo.to_rows(subspace.basis), zoo.to_vector(v)
    expected = np.linalg.norm(rows @ vector) / np.linalg.norm(vector)
    for function in (dominant.alignment, jax.jit(dominant.alignment)):
        error = abs(float(function(scaled, subspace)) - expected)
        assert error <= ROUNDING * eps_of(dtype)


def test_alignment_of_zero_is_zero(dtype):
    found = dominant.alignment(zoo.like(N, dtype), subspace_of(dtype))
    assert float(found) == 0.0


def test_alignment_is_one_inside_and_zero_outside(dtype):
    subspace, v = subspace_of(dtype), vector_tree(dtype)
    inside, outside = dominant.project(v, subspace), dominant.reject(v, subspace)
    eps = eps_of(dtype)
    assert abs(float(dominant.alignment(inside, subspace)) - 1) <= ROUNDING * eps
    assert float(dominant.alignment(outside, subspace)) <= ROUNDING * eps


def test_alignment_keeps_nan_visible(dtype):
    v = vector_tree(dtype)
    v["head"] = v["head"].at[0].set(jnp.nan)
    assert np.isnan(float(dominant.alignment(v, subspace_of(dtype))))


def test_alignment_of_random_vectors_has_energy_k_over_n(dtype):
    subspace = subspace_of(dtype)
    vectors = np.random.default_rng(0).standard_normal((4000, N))
    vectors = zoo.from_rows(vectors, zoo.like(N, dtype))
    chi = jax.jit(jax.vmap(dominant.alignment, (0, None)))(vectors, subspace)
    energies = np.square(np.asarray(chi, np.float64))
    standard_error = np.std(energies) / np.sqrt(len(energies))
    assert abs(np.mean(energies) - K / N) <= 4 * standard_error
    # chi itself has another mean: chi <= 1 is concave in its square
    assert np.mean(np.asarray(chi)) < np.sqrt(K / N) - 4 * standard_error


# --- principal angles and overlap ---


def pair_with_angles(angles, dtype, n=N, seed=0):
    """Two subspaces with prescribed principal angles, in unrelated bases."""
    k = len(angles)
    rows = zoo.random_rows(2 * k, n, seed)
    turned = np.cos(angles)[:, None] * rows[:k] + np.sin(angles)[:, None] * rows[k:]
    mixing = [zoo.random_rows(k, k, seed + i) for i in (1, 2)]
    like = zoo.like(n, dtype)
    return (
        zoo.subspace(mixing[0] @ rows[:k], like),
        zoo.subspace(mixing[1] @ turned, like),
    )


@pytest.mark.parametrize(
    "angles",
    [
        [1.5, 0.7, 1e-3, 1e-6],
        [np.pi / 2, np.pi / 4, np.pi / 4, 1e-5],
        [1e-4, 1e-5, 1e-6, 1e-6],
        [np.pi / 2, np.pi / 2 - 1e-6, 1.0, 0.0],
    ],
    ids=["mixed", "right-angle", "small", "both-ends"],
)
@pytest.mark.parametrize("jit", [True, False], ids=["jit", "nojit"])
def test_principal_angles_are_accurate_at_both_ends(angles, jit, dtype):
    a, b = pair_with_angles(np.array(angles), dtype)
    function = jax.jit(dominant.principal_angles) if jit else dominant.principal_angles
    found = np.asarray(function(a, b), np.float64)
    assert found.shape == (4,)
    allowed = 2 * ROUNDING * eps_of(dtype)  # absolute: an arccos would lose sqrt(eps)
    assert np.max(np.abs(found - angles)) <= allowed


@pytest.mark.parametrize("angles", [[1.5, 1.2, 1.0, 0.8], [0.7, 1e-2, 1e-4, 1e-6]])
def test_principal_angles_have_the_order_and_values_of_scipy(angles, dtype):
    # On one side of pi/4: SciPy 1.17 mixes up its two formulas when both occur, and is
    # then off by up to sqrt(eps)
    a, b = pair_with_angles(np.array(angles), dtype)
    dense = scipy.linalg.subspace_angles(zoo.to_rows(a.basis).T, zoo.to_rows(b.basis).T)
    found = np.asarray(dominant.principal_angles(a, b), np.float64)
    assert np.max(np.abs(found - dense)) <= 2 * ROUNDING * eps_of(dtype)


def test_principal_angles_of_a_space_with_itself_vanish(dtype):
    a = subspace_of(dtype)
    allowed = ROUNDING * eps_of(dtype)
    assert np.max(np.abs(np.asarray(dominant.principal_angles(a, a)))) <= allowed


def test_principal_angles_and_overlap_are_symmetric(dtype):
    a, b = subspace_of(dtype, seed=1), subspace_of(dtype, seed=2)
    forth, back = dominant.principal_angles(a, b), dominant.principal_angles(b, a)
    assert np.max(np.abs(forth - back)) <= 2 * ROUNDING * eps_of(dtype)
    difference = dominant.overlap(a, b) - dominant.overlap(b, a)
    assert abs(float(difference)) <= ROUNDING * eps_of(dtype)


def test_overlap_is_the_mean_squared_cosine(dtype):
    angles = np.array([1.5, 0.7, 1e-3, 1e-6])
    a, b = pair_with_angles(angles, dtype)
    error = abs(float(dominant.overlap(a, b)) - np.mean(np.cos(angles) ** 2))
    assert error <= ROUNDING * eps_of(dtype)


def test_overlap_is_one_with_itself_and_zero_with_the_complement(dtype):
    rows = zoo.random_rows(2 * K, N, 0)
    a, b = (zoo.subspace(r, zoo.like(N, dtype)) for r in (rows[:K], rows[K:]))
    assert abs(float(dominant.overlap(a, a)) - 1) <= ROUNDING * eps_of(dtype)
    assert abs(float(dominant.overlap(a, b))) <= ROUNDING * eps_of(dtype)


def test_overlap_of_independent_random_subspaces_is_k_over_n(dtype):
    pairs = 400
    rows = np.concatenate([zoo.random_rows(K, N, seed) for seed in range(2 * pairs)])
    stacked = zoo.from_rows(rows, zoo.like(N, dtype))
    bases = jax.tree.map(lambda x: x.reshape(2, pairs, K, *x.shape[1:]), stacked)
    one, other = (jax.tree.map(lambda x, s=s: x[s], bases) for s in (0, 1))
    template = subspace_of(dtype)

    def overlap(a, b):
        return dominant.overlap(template._replace(basis=a), template._replace(basis=b))

    found = np.asarray(jax.jit(jax.vmap(overlap))(one, other), np.float64)
    standard_error = np.std(found) / np.sqrt(pairs)
    assert abs(np.mean(found) - K / N) <= 4 * standard_error


@pytest.mark.parametrize("function", [dominant.principal_angles, dominant.overlap])
def test_comparing_spaces_of_different_trees_is_refused(function):
    a = zoo.subspace(zoo.random_rows(2, 5, 0), {"left": jnp.zeros(5)})
    b = zoo.subspace(zoo.random_rows(2, 5, 0), {"right": jnp.zeros(5)})
    with pytest.raises(ValueError, match=r"left|right"):
        function(a, b)


# --- the error bound ---


def test_error_bound_is_residual_over_gap(dtype):
    subspace = subspace_of(
        dtype,
        eigenvalues=[10, 8, 6, 4],
        residuals=[0.21, 0.0, 0.0, 0.04],
        next_eigenvalue=2.5,
        next_residual=0.5,
    )
    bound = float(dominant.error_bound(subspace))
    # 0.21 / 7 = 0.03 and 0.04 / 1 = 0.04, together 0.05; plus a rounding floor
    assert bound >= 0.05 * (1 - eps_of(dtype))
    assert bound <= 0.05 + 100 * eps_of(dtype) * 10


def test_error_bound_never_falls_below_rounding(dtype):
    subspace = subspace_of(dtype, eigenvalues=[10, 8, 6, 4], next_eigenvalue=3.0)
    bound = float(dominant.error_bound(subspace))
    assert eps_of(dtype) <= bound <= 100 * eps_of(dtype) * 10


@pytest.mark.parametrize(
    ("next_eigenvalue", "next_residual"),
    [(4.0, 0.0), (3.9, 0.1), (3.0, 1.5), (5.0, 0.0), (3.0, np.inf), (-np.inf, np.inf)],
)
@pytest.mark.parametrize("residual", [0.0, 0.1])
def test_error_bound_is_infinite_without_a_gap(
    next_eigenvalue, next_residual, residual, dtype
):
    subspace = subspace_of(
        dtype,
        eigenvalues=[10, 8, 6, 4],
        residuals=[residual] * 4,
        next_eigenvalue=next_eigenvalue,
        next_residual=next_residual,
    )
    # 3.9 + 0.1 may round to just below 4: then the rounding floor fills the gap
    assert float(dominant.error_bound(subspace)) >= 1


@pytest.mark.parametrize("field", ["eigenvalues", "residuals", "next_eigenvalue"])
def test_error_bound_of_nan_is_never_small(field, dtype):
    fields = {
        "eigenvalues": [10, 8, 6, 4],
        "residuals": [0.0] * 4,
        "next_eigenvalue": 1.0,
    }
    value = fields[field]
    fields[field] = [*value[:-1], np.nan] if isinstance(value, list) else np.nan
    assert not float(dominant.error_bound(subspace_of(dtype, **fields))) < np.inf


def test_error_bound_may_be_vmapped(dtype):
    subspaces = [
        subspace_of(dtype, residuals=[r] * 4, next_eigenvalue=0.5) for r in (0.1, 0.2)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *subspaces)
    together = np.asarray(jax.vmap(dominant.error_bound)(stacked))
    alone = np.array([float(dominant.error_bound(s)) for s in subspaces])
    assert np.max(np.abs(together - alone)) <= ROUNDING * eps_of(dtype) * np.max(alone)


# --- the error of the alignment ---


def approximate_space(seed, size):
    """A matrix, a space near its top K eigenvectors, and the true residuals."""
    rng = np.random.default_rng(seed)
    values = np.sort(rng.uniform(-1, 3, N))[::-1]
    values[:K] += rng.choice([0.0, 1e-3, 0.1, 3.0])
    matrix = zoo.with_spectrum(values, seed)
    reference = zoo.reference(matrix)
    noise = rng.standard_normal((K, N))
    rows = np.linalg.qr((reference.vectors[:K] + size * noise).T)[0].T
    ritz, turn = np.linalg.eigh(rows @ matrix @ rows.T)
    rows, ritz = turn[:, ::-1].T @ rows, ritz[::-1]
    residuals = np.linalg.norm(rows @ matrix - ritz[:, None] * rows, axis=1)
    found = zoo.subspace(
        rows,
        zoo.like(N, np.float64),
        eigenvalues=ritz,
        residuals=residuals,
        next_eigenvalue=reference.eigenvalues[K],
    )
    return found, rows, reference, rng


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [1e-4, 1e-2, 0.1, 0.5])
def test_alignment_error_bounds_the_error_of_chi(size):
    ratios = []
    for seed in range(60):
        found, rows, reference, rng = approximate_space(seed, size)
        exact_rows = reference.vectors[:K]
        # Vectors nearly inside, anywhere, nearly outside, and in the worst direction.
        candidates = [
            reference.vectors[K],
            rows[-1],
            rng.standard_normal(N),
            rng.standard_normal(K) @ rows + 0.1 * rng.standard_normal(N),
            rows[-1] + reference.vectors[K],
            rows[-1] - reference.vectors[K],
        ]
        for v in candidates:
            chi, exact = (
                np.linalg.norm(u @ v) / np.linalg.norm(v) for u in (rows, exact_rows)
            )
            tree = zoo.to_tree(v, zoo.like(N, np.float64))
            bound = float(dominant.alignment_error(tree, found))
            assert abs(chi - exact) <= bound + 1e-12
            assert bound <= 1
            ratios.append(bound / max(abs(chi - exact), 1e-12))
    # Sharp up to a small factor for some vector.
    assert min(ratios) < 2.5


def test_alignment_error_is_small_where_the_doubtful_vectors_do_not_matter(dtype):
    """A gap of zero at k, but the tree has little of u_k and of the rest."""
    subspace = subspace_of(
        dtype, eigenvalues=[10, 8, 6, 4], next_eigenvalue=4.0, residuals=[1e-3] * 4
    )
    rows = zoo.to_rows(subspace.basis)
    v = rows[0] + 1e-3 * rows[3]
    assert np.isinf(dominant.error_bound(subspace))
    tree = zoo.to_tree(v, zoo.like(N, dtype))
    assert float(dominant.alignment_error(tree, subspace)) < 5e-3


def test_alignment_error_of_an_uncertified_space_is_no_less_than_chi(dtype):
    subspace = subspace_of(dtype, next_residual=np.inf)
    v = vector_tree(dtype)
    error = float(dominant.alignment_error(v, subspace))
    assert error >= float(dominant.alignment(v, subspace)) * (1 - 1e-5)
