"""The error bounds of a space and of the alignment with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.subspaces import ROUNDING, K, N, eps_of, subspace_of, vector_tree

pytestmark = pytest.mark.usefixtures("strict")


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


@jax.jit
def alignment_errors(trees, subspace):
    return jax.vmap(dominant.alignment_error, (0, None))(trees, subspace)


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
        trees = zoo.from_rows(np.stack(candidates), zoo.like(N, np.float64))
        bounds = np.asarray(alignment_errors(trees, found))
        for v, bound in zip(candidates, bounds, strict=True):
            chi, exact = (
                np.linalg.norm(u @ v) / np.linalg.norm(v) for u in (rows, exact_rows)
            )
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
