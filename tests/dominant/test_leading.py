"""The leading part of a subspace, against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.subspaces import ROUNDING, N, eps_of, subspace_of, vector_tree

K_MAX = 6
KS = np.arange(1, K_MAX + 1)

# k is traced: one program for all.
leading_each = jax.jit(
    jax.vmap(
        lambda subspace, k: (
            dominant.leading(subspace, k),
            dominant.error_bound(dominant.leading(subspace, k)),
        ),
        (None, 0),
    )
)


def member(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def test_the_geometry_is_that_of_the_first_k_vectors(dtype):
    subspace, tree = subspace_of(dtype, k=K_MAX), vector_tree(dtype)
    rows, v = zoo.to_rows(subspace.basis), zoo.to_vector(tree)

    @jax.jit
    @jax.vmap
    def measured(k):
        part = dominant.leading(subspace, k)
        return (
            dominant.project(tree, part),
            dominant.reject(tree, part),
            dominant.alignment(tree, part),
        )

    projected, rejected, chi = measured(KS)
    atol = ROUNDING * eps_of(dtype)
    for i, k in enumerate(KS):
        inside = rows[:k].T @ (rows[:k] @ v)
        expected = np.linalg.norm(inside) / np.linalg.norm(v)
        assert abs(float(chi[i]) - expected) <= atol
        atol_v = atol * np.linalg.norm(v)
        got = zoo.to_vector(member(projected, i))
        np.testing.assert_allclose(got, inside, atol=atol_v)
        got = zoo.to_vector(member(rejected, i))
        np.testing.assert_allclose(got, v - inside, atol=atol_v)


@pytest.mark.usefixtures("strict")
def test_all_vectors_are_the_subspace_itself(dtype):
    subspace = subspace_of(
        dtype,
        k=K_MAX,
        residuals=np.linspace(0.1, 0.2, K_MAX),
        next_eigenvalue=0.3,
        next_residual=np.inf,
    )
    for k in (K_MAX, jnp.int32(K_MAX), jnp.int32(K_MAX + 5)):
        jax.tree.map(
            np.testing.assert_array_equal, dominant.leading(subspace, k), subspace
        )
    one, clipped = (
        dominant.leading(subspace, 1),
        dominant.leading(subspace, jnp.int32(0)),
    )
    jax.tree.map(np.testing.assert_array_equal, clipped, one)


@pytest.mark.parametrize("k", [0, -1, K_MAX + 1])
def test_a_dimension_that_there_is_not_is_refused(k):
    with pytest.raises(ValueError, match=rf"between 1 and .* dimension 6, got {k}"):
        dominant.leading(subspace_of(jnp.float32, k=K_MAX), k)


# --- the certificate ------------------------------------------------------------------


def ritz_subspace(matrix, start):
    """Ritz pairs of a space, residuals measured, what is outside bounded exactly."""
    q = np.linalg.qr(start)[0]
    values, rotation = np.linalg.eigh(q.T @ matrix @ q)
    values, vectors = values[::-1], (q @ rotation)[:, ::-1]
    rest = np.linalg.svd(vectors.T)[2][len(values) :].T
    outside = np.linalg.eigvalsh(rest.T @ matrix @ rest)[-1]
    residuals = np.linalg.norm(matrix @ vectors - vectors * values, axis=0)
    # Estimates of the solver come from below.
    estimate = np.linalg.eigvalsh(matrix)[-1 - len(values)] - 0.1
    return zoo.subspace(
        vectors.T,
        zoo.like(N),
        eigenvalues=values,
        residuals=residuals,
        next_eigenvalue=estimate,
        next_residual=outside - estimate,
    )


SPECTRA = ["gapped", "cluster-across", "rank-6", "multiplicities", "plus-minus"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("error", [1e-6, 1e-2, 0.3])
def test_the_bounds_hold_for_each_k(name, error):
    """Against eigh: the sine to the exact space, and lambda_{k+1} from both sides."""
    reference = zoo.reference(zoo.matrix(name))
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(5):
        start = reference.vectors[:K_MAX].T + error * rng.standard_normal((N, K_MAX))
        subspace = ritz_subspace(reference.matrix, start)
        parts, bounds = leading_each(subspace, KS)
        rows = zoo.to_rows(subspace.basis)
        for i, k in enumerate(KS):
            sine = zoo.largest_sine(rows[:k], reference.vectors[:k])
            assert sine <= bounds[i] + 1e-12
            certified += bounds[i] < 0.5
            next_value = reference.eigenvalues[k]
            lower = float(parts.next_eigenvalue[i])
            assert lower <= next_value + 1e-12
            assert next_value <= lower + float(parts.next_residual[i]) + 1e-12
    assert certified >= 5 * (error < 0.1)


@pytest.mark.usefixtures("x64")
def test_the_bound_is_that_of_the_gap_at_k():
    """|(r_i / (lambda_i - upper))|_2 over the first k, with Weyl's upper bound."""
    values, residuals = [10, 8, 6, 4, 2, 1], [0.1, 0.2, 0.0, 0.3, 0.04, 0.03]
    subspace = subspace_of(
        np.float64,
        k=K_MAX,
        eigenvalues=values,
        residuals=residuals,
        next_eigenvalue=0.5,
        next_residual=1.0,
    )
    part = dominant.leading(subspace, 4)
    assert list(part.eigenvalues) == [10, 8, 6, 4, 4, 4]
    assert list(part.residuals) == [0.1, 0.2, 0, 0.3, 0, 0]
    assert float(part.next_eigenvalue) == 2
    assert float(part.next_residual) == pytest.approx(0.05)
    sines = np.array([0.1, 0.2, 0, 0.3]) / (np.array([10, 8, 6, 4]) - 2.05)
    expected = np.linalg.norm(sines)
    assert float(dominant.error_bound(part)) == pytest.approx(expected, rel=1e-9)
    # What lies beyond k_max may be larger than lambda_{k+1}: 1.5 > 1.
    part = dominant.leading(subspace, 5)
    assert float(part.next_eigenvalue + part.next_residual) == pytest.approx(1.53)


@pytest.mark.parametrize(
    ("next_eigenvalue", "next_residual"),
    [(0.5, np.inf), (-np.inf, np.inf), (np.nan, 0.0)],
)
def test_without_a_bound_on_the_rest_nothing_is_certified(
    next_eigenvalue, next_residual
):
    """The rest may hold a larger eigenvalue than any of those found."""
    subspace = subspace_of(
        jnp.float32,
        k=K_MAX,
        next_eigenvalue=next_eigenvalue,
        next_residual=next_residual,
    )
    _, bounds = leading_each(subspace, KS)
    assert not np.any(bounds < np.inf)


@pytest.mark.parametrize("name", ["gapped", "multiplicities"])
def test_the_solvers_spaces_are_certified_at_smaller_k(name):
    reference = zoo.reference(zoo.matrix(name))
    matvec = zoo.matvec(jnp.asarray(reference.matrix, jnp.float32))
    solve = jax.jit(
        lambda: dominant.top_eigenspace(matvec, zoo.like(N, jnp.float32), K_MAX)
    )
    subspace = solve()
    _, bounds = leading_each(subspace, KS)
    rows = zoo.to_rows(subspace.basis)
    for i, k in enumerate(KS):
        sine = zoo.largest_sine(rows[:k], reference.vectors[:k])
        assert sine <= bounds[i]
        assert bounds[i] < 0.05 if reference.gap(k) > 0.01 else bounds[i] == np.inf
