"""The eigensolver on random spectra, and from starts in wrong subspaces."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.solving import (
    assert_bound,
    assert_converged,
    assert_next_eigenvalue,
    assert_orthonormal,
    assert_residuals,
    assert_solution,
    floor_of,
    jitted,
)

pytestmark = pytest.mark.usefixtures("strict")

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


def assert_top(found, reference, tol):
    """A converged but wrong eigenvalue is no answer."""
    assert_converged(found, reference, tol)
    k = len(found.eigenvalues)
    exact = reference.eigenvalues[:k]
    # Kahan: the residuals' norm bounds the errors, where no eigenvalue is missing
    allowed = np.linalg.norm(tol * exact) + np.sqrt(k) * floor_of(found, reference)
    values = np.asarray(found.eigenvalues, np.float64)
    assert np.max(np.abs(values - exact)) <= allowed


@pytest.mark.parametrize(
    ("k", "tol", "max_matvecs", "precision"),
    [
        (1, 1e-1, None, "float32"),
        (3, 1e-6, None, "float64"),
        (3, 3e-1, 12, "float32"),
        (5, 1e-3, 24, "float32"),
    ],
)
def test_residuals_and_bounds_hold_for_any_spectrum(k, tol, max_matvecs, precision):
    """And a solve that stops while products are left has found the top."""
    early_stops = []

    @hypothesis.settings(
        max_examples=120,
        deadline=None,
        derandomize=True,
        database=None,
        # No shrinking: an example is a seed, and one seed is as simple as another
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(data=st.data())
    def check(data):
        found, reference = solve_random_problem(data, k, tol, max_matvecs, precision)
        assert_orthonormal(found)
        assert_residuals(found, reference)
        assert_next_eigenvalue(found, reference)
        assert_bound(found, reference)
        budget = 20 * k + 100 if max_matvecs is None else max_matvecs
        early_stops.append(int(found.num_matvecs) < budget)
        if early_stops[-1]:
            assert_top(found, reference, tol)

    with jax.enable_x64(precision == "float64"):
        check()
    assert sum(early_stops) >= 20


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
