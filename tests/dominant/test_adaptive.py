"""The adaptive policy, on eigenspaces that turn at a known rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant

K, N, STEPS = 2, 8, 2000
RATES = {"still": 0.0, "slow": 1e-3, "fast": 0.02, "too-fast": 0.5}


def matrix_at(angle, gap=1.0):
    """Eigenvalues 5, 1 + gap, 1, .3 ...; the second eigenvector turned by an angle."""
    spectrum = jnp.array([5.0, 1 + gap, 1.0, 0.3, 0.2, 0.1, 0.05, 0.0])
    c, s = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.eye(N).at[1, 1].set(c).at[1, 2].set(-s).at[2, 1].set(s).at[2, 2].set(c)
    return turn @ jnp.diag(spectrum) @ turn.T


def loss_fn(params, matrix):
    return 0.5 * params @ matrix @ params


# Equal limits, one policy, one program.
adaptive = functools.cache(dominant.adaptive)


@functools.cache
def tracking(refresh, gap, tol):
    """The compiled function from angles to the states after each update."""
    tx = dominant.track_subspace(
        optax.sgd(0.0), dominant.hessian(loss_fn), K, refresh=refresh, tol=tol
    )
    params = jnp.ones(N)

    def step(state, angle):
        matrix = matrix_at(angle, gap)
        gradient = jax.grad(loss_fn)(params, matrix)
        _, state = tx.update(gradient, state, params, curvature_data=matrix)
        return state, state

    return jax.jit(lambda angles: jax.lax.scan(step, tx.init(params), angles)[1])


def track(angles, refresh, gap=1.0, tol=1e-5):
    """Track the space along given angles; return the state after each update."""
    return tracking(refresh, gap, tol)(jnp.asarray(angles, jnp.float32))


def true_angles(states, angles):
    """Between the tracked second eigenvector and the exact one."""
    u = np.asarray(states.subspace.basis, np.float64)
    exact = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    inside = np.einsum("tki,ti->tk", u[:, :, 1:3], exact)
    return np.arccos(np.clip(np.linalg.norm(inside, axis=1), 0, 1))


@pytest.mark.parametrize("name", RATES)
def test_a_space_that_turns_steadily_stays_within_the_angle(name):
    rate, max_angle = RATES[name], 0.1
    angles = rate * np.arange(STEPS)
    states = track(angles, adaptive(max_angle, max_interval=500))
    worst = np.max(true_angles(states, angles))
    # Within one step no policy can react.
    assert worst <= max(max_angle, rate) + 1e-3
    # And not much more often than needed: the growth at first, then 0.95 max_angle.
    needed = STEPS * max(rate / max_angle, 1 / 500)
    assert int(states.refreshes[-1]) <= min(1.3 * needed + 6, STEPS)


def test_a_jump_shrinks_the_interval_at_once():
    # Just after a refresh, and intervals are 500 by then.
    jump, rate = 925, 0.001
    angles = rate * np.maximum(np.arange(STEPS) - jump, 0)
    states = track(angles, adaptive(0.1, max_interval=500))
    refreshed = np.flatnonzero(np.diff(np.asarray(states.refreshes)) > 0) + 1
    interval = np.asarray(states.interval)
    assert interval[jump - 1] == 500
    first = refreshed[refreshed > jump][0]
    assert float(states.angle[first]) > 0.3
    assert interval[first] <= 0.1 / rate
    # From there on it holds.
    after = slice(first, None)
    assert np.max(true_angles(states, angles)[after]) <= 0.1 + 1e-3


def test_growth_is_gradual(unoptimized):
    states = track(np.zeros(STEPS), adaptive(0.1, max_interval=1000))
    interval = np.asarray(states.interval)
    assert list(dict.fromkeys(interval.tolist())) == [1, 20, 400, 1000]


def test_intervals_stay_between_the_limits():
    angles = 0.5 * np.arange(200)
    states = track(angles, adaptive(0.1, min_interval=7, max_interval=20))
    assert set(np.asarray(states.interval).tolist()) == {7}
    still = track(np.zeros(200), adaptive(0.1, min_interval=7, max_interval=9))
    assert set(np.asarray(still.interval).tolist()) == {7, 9}


def test_residuals_over_gap_count_towards_the_angle():
    """A loose tolerance: the basis may stand still and still be off."""
    rate, steps = 1e-4, 1000
    angles = rate * np.arange(steps)
    loose = track(angles, adaptive(0.1), gap=0.5, tol=0.05)
    bounds = np.asarray(jax.vmap(dominant.error_bound)(loose.subspace))
    assert np.max(true_angles(loose, angles)) <= 0.1
    at_refresh = np.asarray(loose.steps_since_refresh) == 1
    spent = 0.1 - bounds[at_refresh]
    allowed = np.asarray(loose.interval)[at_refresh]
    assert np.all(allowed[spent <= 0] == 1)


def test_without_a_gap_the_smallest_interval_is_used():
    states = track(np.zeros(50), adaptive(0.1, min_interval=5), gap=0.0)
    assert np.all(np.isinf(jax.vmap(dominant.error_bound)(states.subspace)))
    assert set(np.asarray(states.interval).tolist()) == {5}


def test_swaps_inside_the_space_do_not_count():
    """Eigenvalues that cross inside the top k leave the space where it is."""
    crossing = np.linspace(1, -1, 500)

    def loss(params, t):
        spectrum = jnp.array([4.0, 4.0, 1.0, 0.3, 0.2, 0.1, 0.05, 0.0])
        return 0.5 * jnp.sum(spectrum.at[0].add(t).at[1].add(-t) * params**2)

    tx = dominant.track_subspace(
        optax.sgd(0.0),
        dominant.hessian(loss),
        K,
        refresh=adaptive(0.1, max_interval=50),
    )
    params = jnp.ones(N)

    def step(state, t):
        gradient = jax.grad(loss)(params, t)
        _, state = tx.update(gradient, state, params, curvature_data=t)
        return state, (state.angle, state.interval, state.subspace.basis)

    run = jax.jit(lambda ts: jax.lax.scan(step, tx.init(params), ts)[1])
    angle, interval, basis = run(jnp.asarray(crossing, jnp.float32))
    assert np.max(np.asarray(angle)[1:]) <= 1e-3
    assert int(interval[-1]) == 50
    assert np.max(np.abs(np.asarray(basis)[:, :, 2:])) <= 1e-3


def test_change_of_chi_is_that_of_the_gradient_by_both_bases():
    angles = np.array([0.0, 0.4])
    states = track(angles, dominant.every(1))
    matrix = np.asarray(matrix_at(angles[1]), np.float64)
    gradient = matrix @ np.ones(N)
    chi = []
    for angle in angles:
        u = np.linalg.eigh(np.asarray(matrix_at(angle), np.float64))[1][:, -K:]
        chi.append(np.linalg.norm(u.T @ gradient) / np.linalg.norm(gradient))
    assert abs(chi[1] - chi[0]) > 0.01
    change = float(states.alignment_change[1])
    np.testing.assert_allclose(change, chi[1] - chi[0], atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [(0.0,), (-0.1,), (float("nan"),), (0.1, 0), (0.1, 10, 9)],
    ids=str,
)
def test_limits_are_checked(arguments):
    with pytest.raises(ValueError, match="adaptive needs"):
        dominant.adaptive(*arguments)
