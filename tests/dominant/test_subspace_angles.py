"""Principal angles and overlap against prescribed ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import dominant
from tests.dominant import zoo
from tests.dominant.subspaces import ROUNDING, K, N, eps_of, subspace_of

pytestmark = pytest.mark.usefixtures("strict")

principal_angles = jax.jit(dominant.principal_angles)
overlap = jax.jit(dominant.overlap)


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
def test_principal_angles_are_accurate_at_both_ends(angles, dtype):
    a, b = pair_with_angles(np.array(angles), dtype)
    found = np.asarray(principal_angles(a, b), np.float64)
    assert found.shape == (4,)
    allowed = 2 * ROUNDING * eps_of(dtype)  # absolute: an arccos would lose sqrt(eps)
    assert np.max(np.abs(found - angles)) <= allowed


def test_principal_angles_and_overlap_without_jit():
    angles = np.array([np.pi / 2, 0.7, 1e-3, 1e-6])
    a, b = pair_with_angles(angles, jnp.float32)
    eps = eps_of(jnp.float32)
    found = np.asarray(dominant.principal_angles(a, b), np.float64)
    assert np.max(np.abs(found - angles)) <= 2 * ROUNDING * eps
    error = abs(float(dominant.overlap(a, b)) - np.mean(np.cos(angles) ** 2))
    assert error <= ROUNDING * eps


@pytest.mark.parametrize("angles", [[1.5, 1.2, 1.0, 0.8], [0.7, 1e-2, 1e-4, 1e-6]])
def test_principal_angles_have_the_order_and_values_of_scipy(angles, dtype):
    # On one side of pi/4: SciPy 1.17 mixes up its two formulas when both occur, and is
    # then off by up to sqrt(eps)
    a, b = pair_with_angles(np.array(angles), dtype)
    dense = scipy.linalg.subspace_angles(zoo.to_rows(a.basis).T, zoo.to_rows(b.basis).T)
    found = np.asarray(principal_angles(a, b), np.float64)
    assert np.max(np.abs(found - dense)) <= 2 * ROUNDING * eps_of(dtype)


def test_principal_angles_of_a_space_with_itself_vanish(dtype):
    a = subspace_of(dtype)
    allowed = ROUNDING * eps_of(dtype)
    assert np.max(np.abs(np.asarray(principal_angles(a, a)))) <= allowed


def test_principal_angles_and_overlap_are_symmetric(dtype):
    a, b = subspace_of(dtype, seed=1), subspace_of(dtype, seed=2)
    forth, back = principal_angles(a, b), principal_angles(b, a)
    assert np.max(np.abs(forth - back)) <= 2 * ROUNDING * eps_of(dtype)
    difference = overlap(a, b) - overlap(b, a)
    assert abs(float(difference)) <= ROUNDING * eps_of(dtype)


def test_overlap_is_the_mean_squared_cosine(dtype):
    angles = np.array([1.5, 0.7, 1e-3, 1e-6])
    a, b = pair_with_angles(angles, dtype)
    error = abs(float(overlap(a, b)) - np.mean(np.cos(angles) ** 2))
    assert error <= ROUNDING * eps_of(dtype)


def test_overlap_is_one_with_itself_and_zero_with_the_complement(dtype):
    rows = zoo.random_rows(2 * K, N, 0)
    a, b = (zoo.subspace(r, zoo.like(N, dtype)) for r in (rows[:K], rows[K:]))
    assert abs(float(overlap(a, a)) - 1) <= ROUNDING * eps_of(dtype)
    assert abs(float(overlap(a, b))) <= ROUNDING * eps_of(dtype)


def test_overlap_of_independent_random_subspaces_is_k_over_n(dtype):
    pairs = 400
    rows = np.concatenate([zoo.random_rows(K, N, seed) for seed in range(2 * pairs)])
    stacked = zoo.from_rows(rows, zoo.like(N, dtype))
    bases = jax.tree.map(lambda x: x.reshape(2, pairs, K, *x.shape[1:]), stacked)
    one, other = (jax.tree.map(lambda x, s=s: x[s], bases) for s in (0, 1))
    template = subspace_of(dtype)

    def overlap_of(a, b):
        return dominant.overlap(template._replace(basis=a), template._replace(basis=b))

    found = np.asarray(jax.jit(jax.vmap(overlap_of))(one, other), np.float64)
    standard_error = np.std(found) / np.sqrt(pairs)
    assert abs(np.mean(found) - K / N) <= 4 * standard_error


@pytest.mark.parametrize("function", [dominant.principal_angles, dominant.overlap])
def test_comparing_spaces_of_different_trees_is_refused(function):
    a = zoo.subspace(zoo.random_rows(2, 5, 0), {"left": jnp.zeros(5)})
    b = zoo.subspace(zoo.random_rows(2, 5, 0), {"right": jnp.zeros(5)})
    with pytest.raises(ValueError, match=r"left|right"):
        function(a, b)
