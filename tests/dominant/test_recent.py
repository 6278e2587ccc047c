"""Principal components of recent updates, against a singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.tracked import PARAMS

pytestmark = pytest.mark.usefixtures("strict")

NUM, K = 4, 2


def updates_of(i):
    """The i-th updates: noise."""
    rng = np.random.default_rng(i)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS
    )


def rows(tree):
    return np.asarray(zoo.to_rows(tree), np.float64)


def test_it_passes_updates_on_and_keeps_the_latest():
    tx = dominant.remember(NUM)
    state = tx.init(PARAMS)
    assert not rows(dominant.latest(state)).any()
    seen = []
    for i in range(7):
        updates = updates_of(i)
        passed, state = jax.jit(tx.update)(updates, state, PARAMS)
        jax.tree.map(np.testing.assert_array_equal, passed, updates)
        seen.append(zoo.to_vector(updates))
        kept = {tuple(row) for row in rows(dominant.latest(state)) if row.any()}
        assert kept == {tuple(row) for row in np.asarray(seen[-NUM:], np.float64)}
    assert state.num_updates == 7


def test_the_second_moment_is_the_matrix(dtype):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 8))
    data = zoo.from_rows(vectors, zoo.cast(PARAMS, dtype))
    matvec = dominant.second_moment(None, data)
    identity = zoo.from_rows(np.eye(8), zoo.cast(PARAMS, dtype))
    found = rows(jax.jit(jax.vmap(matvec))(identity))
    expected = vectors.T @ vectors / 5
    np.testing.assert_allclose(found, expected, atol=30 * float(jnp.finfo(dtype).eps))


def make_tracker(num=NUM, **options):
    inner = optax.chain(
        optax.sgd(0.05), dominant.remember(num), dominant.bulk_project()
    )
    return dominant.track_subspace(
        inner, dominant.second_moment, K, refresh=dominant.every(1), **options
    )


def run(tx, num_steps):
    """Return the states after each step, and the whole updates by hand."""

    @jax.jit
    def step(gradients, state):
        updates, state = tx.update(
            gradients, state, PARAMS, curvature_data=dominant.latest(state)
        )
        return state, jax.tree.map(lambda g: -0.05 * g, gradients), updates

    state, found = tx.init(PARAMS), []
    for i in range(num_steps):
        state, whole, updates = step(updates_of(i), state)
        found.append((state, zoo.to_vector(whole), zoo.to_vector(updates)))
    return found


def test_a_tracker_of_it_removes_the_principal_components():
    steps = run(make_tracker(tol=1e-6), 8)
    for i in range(NUM, 8):
        state, whole, updates = steps[i]
        # The basis was taken at the params of the step: from the updates before it.
        before = np.array([one for _, one, _ in steps[i - NUM : i]], np.float64)
        _, lengths, directions = np.linalg.svd(before)
        moments = lengths[:K] ** 2 / NUM
        # Rounding is relative to the largest one.
        rounding = 10 * np.finfo(np.float32).eps * moments[0]
        found = state.subspace.eigenvalues
        np.testing.assert_allclose(found, moments, atol=rounding, rtol=1e-5)
        top = directions[:K]
        assert np.linalg.norm(rows(state.subspace.basis) @ top.T) ** 2 > K - 1e-4
        expected = whole - top.T @ (top @ whole)
        np.testing.assert_allclose(updates, expected, atol=2e-4 * np.abs(whole).max())


def test_before_there_is_anything_to_remember_the_basis_is_orthonormal():
    (state, whole, updates), *_ = run(make_tracker(), 1)
    basis = rows(state.subspace.basis)
    np.testing.assert_allclose(basis @ basis.T, np.eye(K), atol=1e-5)
    np.testing.assert_array_equal(state.subspace.eigenvalues, 0)
    assert state.failed_refreshes == 0
    np.testing.assert_allclose(updates, whole - basis.T @ (basis @ whole), atol=1e-6)


def test_frozen_and_integer_leaves_are_left_alone():
    params = {**PARAMS, "steps": jnp.int32(3)}
    tx = dominant.remember(NUM)
    state = tx.init(params)
    assert state.latest["steps"] is None
    updates = {**updates_of(0), "steps": jnp.int32(0)}
    passed, state = tx.update(updates, state, params)
    assert passed["steps"] == 0
    assert state.latest["steps"] is None


def test_what_cannot_be():
    with pytest.raises(ValueError, match="num >= 1, got 0"):
        dominant.remember(0)
    with pytest.raises(ValueError, match="one `remember`, got 0"):
        dominant.latest(optax.sgd(0.1).init(PARAMS))
    twice = optax.chain(dominant.remember(1), dominant.remember(2))
    with pytest.raises(ValueError, match="one `remember`, got 2"):
        dominant.latest(twice.init(PARAMS))
