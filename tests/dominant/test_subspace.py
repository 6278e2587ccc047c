"""Projections and alignment: identities and dense references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import dominant
from tests.dominant import zoo
from tests.dominant.subspaces import ROUNDING, K, N, eps_of, subspace_of, vector_tree

pytestmark = pytest.mark.usefixtures("strict")


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
