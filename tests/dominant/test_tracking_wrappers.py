"""The tracker inside and around optax's wrappers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant.tracked import (
    DATA,
    PARAMS,
    TOL,
    K,
    bulk_sgd,
    expected_bulk_sgd,
    flat,
    loss_fn,
    train,
)


@functools.cache
def plain():
    """The params after 20 steps of Bulk-SGD, without any wrapper."""
    params, _ = train(bulk_sgd(dominant.hessian(loss_fn), dominant.every(5)), 20)
    np.testing.assert_allclose(flat(params), expected_bulk_sgd(20), atol=1e-5)
    return params


def test_apply_if_finite_and_inject_hyperparams_inside(counter):
    inner = optax.chain(
        optax.apply_if_finite(
            optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), 3
        ),
        dominant.bulk_project(),
    )
    tx = dominant.track_subspace(inner, counter, K, refresh=dominant.every(5), tol=TOL)
    wrapped, states = train(tx, 20)
    np.testing.assert_allclose(flat(wrapped), flat(plain()), atol=1e-6)
    assert counter.read() == int(states[-1].total_matvecs)
    assert int(states[-1].refreshes) == 4


def test_apply_if_finite_outside_skips_bad_steps(counter):
    tx = optax.apply_if_finite(bulk_sgd(counter, dominant.every(1)), 3)
    state = tx.init(PARAMS)
    bad = jax.tree.map(lambda p: p * jnp.nan, PARAMS)
    updates, state = tx.update(bad, state, PARAMS, curvature_data=DATA)
    np.testing.assert_array_equal(flat(updates), 0)
    assert int(state.inner_state.refreshes) == 0


def test_multisteps_inside_solves_once_a_refresh(counter):
    """The documented order: accumulate first, track and project outside."""
    n = 4
    multi = optax.MultiSteps(optax.sgd(0.1), n).gradient_transformation()
    tx = dominant.track_subspace(
        optax.chain(multi, dominant.bulk_project()),
        counter,
        K,
        refresh=dominant.every(n),
        tol=TOL,
    )
    params, states = train(tx, 3 * n)
    assert int(states[-1].refreshes) == 3
    assert counter.read() == int(states[-1].total_matvecs)
    # Constant gradients between emissions: three steps of Bulk-SGD.
    np.testing.assert_allclose(flat(params), expected_bulk_sgd(3), atol=1e-6)


def test_multisteps_outside_executes_solves_that_it_throws_away(counter):
    """As optax is: each mini-step runs the update; the last one's state is kept."""
    n = 4
    tx = optax.MultiSteps(bulk_sgd(counter, dominant.every(1)), n)
    _, states = train(tx, n)
    kept = int(states[-1].inner_opt_state.total_matvecs)
    assert int(states[-1].inner_opt_state.refreshes) == 1
    assert counter.read() >= 3 * kept


def test_multisteps_that_drops_the_extras_gets_the_right_order_named(counter):
    base = optax.chain(optax.sgd(0.1), dominant.bulk_project())
    multi = optax.MultiSteps(base, 2).gradient_transformation()
    tx = dominant.track_subspace(multi, counter, K, refresh=dominant.every(1))
    with pytest.raises(ValueError, match=r"MultiSteps\(optimizer, n\)"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, curvature_data=DATA)


def test_inject_hyperparams_around_the_tracker_with_static_args(counter):
    def bulk(learning_rate, curvature, k, refresh):
        inner = optax.chain(optax.sgd(learning_rate), dominant.bulk_project())
        return dominant.track_subspace(inner, curvature, k, refresh=refresh, tol=TOL)

    tx = optax.inject_hyperparams(bulk, static_args=("curvature", "k", "refresh"))(
        learning_rate=0.1, curvature=counter, k=K, refresh=dominant.every(5)
    )
    params, states = train(tx, 20)
    np.testing.assert_allclose(flat(params), flat(plain()), atol=1e-6)
    assert float(states[-1].hyperparams["learning_rate"]) == pytest.approx(0.1)
    assert counter.read() == int(states[-1].inner_state.total_matvecs)
