"""The tracker: when it solves, what it keeps, what it refuses."""

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
    SPECTRUM,
    TOL,
    K,
    bulk_sgd,
    expected_bulk_sgd,
    flat,
    loss_fn,
    train,
    types,
)

# --- cadence --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
def test_every_n_refreshes_at_each_nth_update_and_pays_only_then(n, counter):
    _, states = train(bulk_sgd(counter, dominant.every(n)), 10)
    assert [int(s.refreshes) for s in states] == [1 + i // n for i in range(10)]
    assert [int(s.steps_since_refresh) for s in states] == [
        1 + i % n for i in range(10)
    ]
    assert counter.read() == int(states[-1].total_matvecs) > 0
    assert all(int(s.failed_refreshes) == 0 for s in states)


def test_policies_are_written_by_users(counter):
    policy = dominant.RefreshPolicy(
        due=lambda state: state.steps_since_refresh >= state.interval,
        next_interval=lambda state: 2 * jnp.maximum(state.steps_since_refresh, 1),
    )
    _, states = train(bulk_sgd(counter, policy), 16)
    # Intervals 2, 4, 8: refreshes at updates 0, 2, 6, 14.
    refreshes = np.diff([0, *(int(s.refreshes) for s in states)])
    assert list(np.flatnonzero(refreshes)) == [0, 2, 6, 14]


def test_every_needs_at_least_one_step():
    with pytest.raises(ValueError, match="n >= 1"):
        dominant.every(0)


def test_state_keeps_its_types_under_scan(counter):
    tx = bulk_sgd(counter, dominant.every(2))
    state = tx.init(PARAMS)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(
            jax.grad(loss_fn)(params, DATA), state, params, curvature_data=DATA
        )
        return (optax.apply_updates(params, updates), state), None

    def run(carry):
        # scan itself refuses a carry whose types change.
        return jax.lax.scan(step, carry, length=5)[0]

    _, last = jax.eval_shape(run, (PARAMS, state))
    assert types(state) == types(last)


def test_dominant_coordinates_freeze_and_the_bulk_decays():
    params, _ = train(bulk_sgd(dominant.hessian(loss_fn), dominant.every(5)), 50)
    np.testing.assert_allclose(flat(params), expected_bulk_sgd(50), atol=1e-5)


def test_angle_is_that_between_successive_bases():
    """The space turns by a known angle between two refreshes."""

    def turning_loss(params, angle):
        x = flat(params)
        c, s = jnp.cos(angle), jnp.sin(angle)
        u, v = c * x[0] + s * x[2], -s * x[0] + c * x[2]
        rest = 0.5 * jnp.sum(DATA[3:] * x[3:] ** 2)
        return 0.5 * (9 * u**2 + 1 * v**2 + 5 * x[1] ** 2) + rest

    tx = dominant.track_subspace(
        optax.sgd(0.0),
        dominant.hessian(turning_loss),
        K,
        refresh=dominant.every(1),
        tol=1e-6,
    )
    state = tx.init(PARAMS)
    update = jax.jit(tx.update)
    gradients = jax.tree.map(jnp.zeros_like, PARAMS)
    for angle in [0.0, 0.01, 0.31]:
        _, state = update(gradients, state, PARAMS, curvature_data=jnp.float32(angle))
        measured = float(state.angle)
        if angle == 0.0:
            assert measured == pytest.approx(np.pi / 2)
        else:
            assert measured == pytest.approx({0.01: 0.01, 0.31: 0.3}[angle], abs=1e-5)


def test_solves_in_blocks_track_the_same_space(counter):
    params, states = train(bulk_sgd(counter, dominant.every(3), block_size=K), 7)
    np.testing.assert_allclose(flat(params), expected_bulk_sgd(7), rtol=1e-5)
    np.testing.assert_allclose(states[-1].subspace.eigenvalues, SPECTRUM[:K], rtol=1e-5)
    # A warm block still passes: K products, and those of the probe.
    assert int(states[3].total_matvecs - states[2].total_matvecs) <= K + len(SPECTRUM)


# --- what inner receives --------------------------------------------------------------


def probe(seen):
    """A transformation that notes the extra arguments it got."""

    def update(updates, state, params=None, **extra):
        seen.update(extra, params=params)
        return updates, state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def test_extras_reach_inner_and_gradient_defaults_to_the_updates(counter):
    seen = {}
    tx = dominant.track_subspace(probe(seen), counter, K, refresh=dominant.every(1))

    def update(params, data):
        gradients, state = jax.grad(loss_fn)(params, data), tx.init(params)
        _, state = tx.update(gradients, state, params, curvature_data=data, value=1.5)
        assert seen["value"] == 1.5
        assert seen["curvature_data"] is data
        assert seen["gradient"] is gradients
        assert seen["params"] is params
        assert seen["subspace"] is state.subspace
        full = jax.tree.map(jnp.ones_like, gradients)
        tx.update(gradients, state, params, curvature_data=data, gradient=full)
        assert seen["gradient"] is full

    jax.eval_shape(update, PARAMS, DATA)  # the wiring: nothing is run


def test_trackers_nest_and_the_inner_subspace_wins(counter):
    inner = dominant.track_subspace(
        dominant.dom_project(), counter, 1, refresh=dominant.every(1), tol=TOL
    )
    outer = dominant.track_subspace(
        optax.chain(inner, dominant.bulk_project()),
        dominant.hessian(loss_fn),
        K,
        refresh=dominant.every(1),
        tol=TOL,
    )
    updates, state = jax.jit(outer.update)(
        jax.tree.map(jnp.ones_like, PARAMS),
        outer.init(PARAMS),
        PARAMS,
        curvature_data=DATA,
    )
    # First the part along the top 1, then what of it lies outside the top 2: nothing.
    np.testing.assert_allclose(flat(updates), 0, atol=1e-5)
    assert state.inner_state[0].subspace.eigenvalues.shape == (1,)


# --- failures -------------------------------------------------------------------------


def test_a_refresh_that_meets_nan_keeps_the_old_basis_and_counts(counter):
    tx = bulk_sgd(counter, dominant.every(1))
    update = jax.jit(tx.update)
    gradients = jax.grad(loss_fn)(PARAMS, DATA)
    _, good = update(gradients, tx.init(PARAMS), PARAMS, curvature_data=DATA)
    spent = counter.read()
    updates, bad = update(gradients, good, PARAMS, curvature_data=DATA * jnp.nan)
    assert int(bad.failed_refreshes) == 1
    assert int(bad.refreshes) == 2
    for name in ("eigenvalues", "residuals", "next_eigenvalue", "next_residual"):
        np.testing.assert_array_equal(
            getattr(bad.subspace, name), getattr(good.subspace, name)
        )
    jax.tree.map(np.testing.assert_array_equal, bad.subspace.basis, good.subspace.basis)
    assert np.all(np.isfinite(flat(updates)))
    assert counter.read() - spent < 3, "a solve on NaN must end at once"
    _, again = update(gradients, bad, PARAMS, curvature_data=DATA)
    assert int(again.failed_refreshes) == 1
    assert int(again.subspace.num_matvecs) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": None}, "needs params"),
        ({"curvature_data": None}, "curvature_data"),
        ({"updates": {"a": jnp.zeros((2, 3))}}, "structure"),
        ({"updates": {"a": jnp.zeros((3, 2)), "b": jnp.zeros(2)}}, r"\['a'\]"),
    ],
)
def test_bad_calls_are_refused(arguments, message):
    tx = bulk_sgd(dominant.hessian(loss_fn), dominant.every(1))
    good = {"updates": PARAMS, "params": PARAMS, "curvature_data": DATA}
    call = {**good, **arguments}
    with pytest.raises(ValueError, match=message):
        tx.update(
            call["updates"],
            tx.init(PARAMS),
            call["params"],
            curvature_data=call["curvature_data"],
        )


def test_k_is_checked_against_the_parameters():
    with pytest.raises(ValueError, match="at least 1"):
        dominant.track_subspace(
            optax.sgd(0.1), dominant.hessian(loss_fn), 0, refresh=dominant.every(1)
        )
    tx = dominant.track_subspace(
        optax.sgd(0.1), dominant.hessian(loss_fn), 9, refresh=dominant.every(1)
    )
    with pytest.raises(ValueError, match=r"\(8\), got 9"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, curvature_data=DATA)


# --- init -----------------------------------------------------------------------------


def test_init_works_on_optax_placeholders(counter):
    tx = bulk_sgd(counter, dominant.every(1))
    state = tx.init(PARAMS)
    doubled = optax.tree.map_params(tx, lambda leaf: leaf + 2, state)
    np.testing.assert_array_equal(doubled.subspace.basis["a"], 2)
    assert doubled.subspace.basis["a"].shape == (K, 2, 3)
    assert int(doubled.refreshes) == 0


def test_init_shares_no_buffer_so_that_the_state_can_be_donated(counter):
    tx = bulk_sgd(counter, dominant.every(1))
    state = tx.init(PARAMS)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    keys = [
        x
        for x in jax.tree.leaves(state)
        if jnp.issubdtype(x.dtype, jax.dtypes.extended)
    ]
    assert not keys, "the state holds a typed PRNG key"

    @functools.partial(jax.jit, donate_argnums=1)
    def step(params, state):
        gradients = jax.grad(loss_fn)(params, DATA)
        updates, state = tx.update(gradients, state, params, curvature_data=DATA)
        return optax.apply_updates(params, updates), state

    params, state = step(PARAMS, state)
    params, state = step(params, state)
    np.testing.assert_allclose(flat(params), expected_bulk_sgd(2), atol=1e-6)


# --- frozen leaves --------------------------------------------------------------------


def test_integer_leaves_cost_no_basis_memory_and_pass_unchanged():
    params = {**PARAMS, "table": jnp.arange(3)}
    tx = bulk_sgd(dominant.hessian(loss_fn), dominant.every(1))
    state = tx.init(params)
    assert state.subspace.basis["table"] is None
    updates = {
        **jax.grad(loss_fn)(PARAMS, DATA),
        "table": jnp.zeros(3, jnp.int32),
    }
    inner = dominant.track_subspace(
        dominant.bulk_project(),
        dominant.hessian(loss_fn),
        K,
        refresh=dominant.every(1),
        tol=TOL,
    )
    projected, state = inner.update(
        updates, inner.init(params), params, curvature_data=DATA
    )
    np.testing.assert_array_equal(projected["table"], 0)
    expected = np.array(flat(updates))
    expected[:K] = 0
    np.testing.assert_allclose(flat(projected), expected, atol=1e-5)
