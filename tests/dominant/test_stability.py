"""The guard at the bulk's edge, against closed forms on quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from dominant import stability
from tests.dominant import tracked, zoo
from tests.dominant.quadratics import EPS, N, Quadratic, simulate

SHARP = [40.0, 35.0, 30.0]
BULK = np.linspace(10, 1, N - 3)
ALPHA, GAMMA = 0.49, 4.0
STABLE, UNSTABLE = 0.04, 0.1  # gamma rate mu: 1.6 and 4 for the largest mu


def given(next_eigenvalue=BULK[0], next_residual=0.0, dtype=jnp.float64):
    """The quadratic, and its exact space with a chosen lambda_{k+1}."""
    problem = Quadratic([*SHARP, *BULK], 3, dtype)
    subspace = zoo.subspace(
        problem.rows[:3],
        problem.like,
        eigenvalues=SHARP,
        next_eigenvalue=next_eigenvalue,
        next_residual=next_residual,
    )
    return problem, subspace


def descend(tx, problem, subspace, steps):
    """Coordinates [steps, N] before each step of gradient descent from (1, .., 1)."""

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    def run(subspace):
        return simulate(
            tx,
            gradient,
            problem.params(np.ones(N)),
            subspace,
            jnp.arange(steps),
            lambda params, _: problem.coordinates(params),
        )[1]

    return np.asarray(jax.jit(run)(subspace))


def chain(rate, *guards):
    weigh = dominant.interpolate_project(ALPHA, GAMMA)
    return optax.chain(optax.sgd(rate), weigh, *guards)


# --- on quadratics --------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_beyond_the_edge_coordinates_follow_the_closed_form(fraction):
    """Multiplied by 1 - alpha rate lambda_i, and by 1 - s gamma rate mu_j."""
    steps = 60
    problem, subspace = given()
    guard = dominant.cap_bulk(GAMMA * UNSTABLE, fraction=fraction)
    path = descend(chain(UNSTABLE, guard), problem, subspace, steps)
    scale = fraction * 2 / (GAMMA * UNSTABLE * BULK[0])
    factors = np.concatenate(
        [
            1 - ALPHA * UNSTABLE * np.array(SHARP),
            1 - scale * GAMMA * UNSTABLE * BULK,
        ]
    )
    expected = factors ** np.arange(steps)[:, None]
    np.testing.assert_allclose(path, expected, atol=1e3 * EPS)
    assert np.max(np.abs(path)) <= 1 + 1e-12
    unguarded = descend(chain(UNSTABLE), problem, subspace, steps)
    assert np.max(np.abs(unguarded)) > 1e10


@pytest.mark.usefixtures("x64")
def test_below_the_edge_nothing_changes_to_the_last_bit():
    problem, subspace = given()
    guard = dominant.cap_bulk(GAMMA * STABLE)
    guarded = descend(chain(STABLE, guard), problem, subspace, 60)
    np.testing.assert_array_equal(
        guarded, descend(chain(STABLE), problem, subspace, 60)
    )
    assert np.max(np.abs(guarded[-1])) < 0.2


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("relative", "grows"), [(0.98, False), (1.02, True)])
def test_the_fraction_makes_it_the_edge_of_heavy_ball(relative, grows):
    beta = 0.9
    problem, subspace = given()
    tx = optax.chain(
        optax.sgd(3.8 / BULK[0] * 3, momentum=beta),  # three times beyond its edge
        dominant.bulk_project(),
        dominant.cap_bulk(3.8 / BULK[0] * 3, fraction=relative * (1 + beta)),
    )
    last = np.abs(descend(tx, problem, subspace, 1000)[-1, 3])
    assert last > 10 if grows else last < 0.1


def test_the_librarys_own_bound_keeps_bulk_descent_bounded():
    problem, _ = given(dtype=np.float32)
    subspace = problem.subspace(1e-5)
    guard = dominant.cap_bulk(GAMMA * UNSTABLE)
    path = descend(chain(UNSTABLE, guard), problem, subspace, 200)
    assert np.max(np.abs(path[:, 3:])) <= 1 + 1e-4
    assert np.max(np.abs(path[-1, 3:])) < 0.1


# --- what it reads, and what it costs -------------------------------------------------

RATE = 0.5


def scales(learning_rate, subspace, steps=1, fraction=1.0):
    """The scale of each update; the state's types stay as they were."""
    tx = dominant.cap_bulk(learning_rate, fraction=fraction)
    updates = jax.tree.map(lambda b: b[0], subspace.basis)

    def step(state, _):
        _, new = tx.update(updates, state, subspace=subspace)
        return new, new.scale

    state, scales = jax.lax.scan(step, tx.init(updates), length=steps)
    assert int(state.num_updates) == steps
    return scales


@pytest.mark.parametrize(
    ("next_eigenvalue", "next_residual", "relied_on"),
    [
        (16.0, 0.0, 16.0),
        (16.0, 4.0, 20.0),
        (3.0, 0.5, None),  # below the edge, 4
        (3.0, 2.0, 5.0),  # perhaps above it
        (-1.0, 6.0, 5.0),
        # The edge is not known: only what is beyond it for certain is scaled.
        (16.0, np.inf, 16.0),
        (16.0, np.nan, 16.0),
        (3.0, np.inf, None),
        # No edge.
        (0.0, 0.0, None),
        (0.0, np.inf, None),
        (-5.0, 1.0, None),
        (-5.0, np.inf, None),
        (-np.inf, 0.0, None),
        (-np.inf, np.inf, None),
        (np.nan, 0.0, None),
        (np.nan, np.inf, None),
        (np.inf, np.inf, None),
    ],
)
def test_what_is_relied_on(next_eigenvalue, next_residual, relied_on):
    _, subspace = given(next_eigenvalue, next_residual, jnp.float32)
    expected = 1 if relied_on is None else 2 / (RATE * relied_on)
    np.testing.assert_allclose(scales(RATE, subspace), [expected], rtol=1e-6)


def test_the_rate_may_be_a_schedule():
    _, subspace = given(10.0, dtype=jnp.float32)
    rates = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    found = scales(lambda count: 0.1 * count, subspace, steps=6, fraction=0.9)
    expected = np.minimum(1, 0.9 * 2 / (np.maximum(rates, 1e-9) * 10))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert expected[1] == 1 > expected[2]


def test_no_projection_is_computed_below_the_edge(monkeypatch):
    executed = []
    project = dominant.project

    def counted(tree, subspace):
        jax.debug.callback(lambda: executed.append(1))
        return project(tree, subspace)

    monkeypatch.setattr(stability, "project", counted)
    _, subspace = given(10.0, dtype=jnp.float32)
    rates = jnp.array([0.1, 0.3, 0.1, 0.1, 0.5])
    found = scales(lambda count: rates[count], subspace, steps=5)
    jax.effects_barrier()
    assert len(executed) == 2 == np.sum(np.asarray(found) < 1)


def test_members_of_a_vmap_have_their_own_scale():
    problem, subspace = given(dtype=jnp.float32)
    coordinates = np.random.default_rng(0).standard_normal(N)
    updates = problem.params(coordinates)
    tx = dominant.cap_bulk(RATE)

    @jax.jit
    @jax.vmap
    def run(sharpness):
        member = subspace._replace(next_eigenvalue=sharpness)
        return tx.update(updates, tx.init(updates), subspace=member)

    capped, state = run(jnp.array([1.0, 8.0, 40.0]))
    np.testing.assert_allclose(state.scale, [1, 0.5, 0.1], rtol=1e-6)
    for member, scale in enumerate([1, 0.5, 0.1]):
        got = jax.tree.map(lambda x, i=member: x[i], capped)
        expected = coordinates * np.where(np.arange(N) < 3, 1, scale)
        np.testing.assert_allclose(problem.coordinates(got), expected, atol=3e-6)
        if scale == 1:
            np.testing.assert_array_equal(zoo.flatten(got), zoo.flatten(updates))


def test_leaves_that_the_curvature_leaves_out_pass_unchanged():
    _, subspace = given(40.0, dtype=jnp.float32)
    updates = jax.tree.map(lambda b: 0.1 + b[0] + b[1], subspace.basis)
    part = subspace._replace(basis={**subspace.basis, "w": None})
    tx = dominant.cap_bulk(RATE)
    capped, _ = tx.update(updates, tx.init(updates), subspace=part)
    np.testing.assert_array_equal(capped["w"], updates["w"])
    rows = zoo.to_rows(part.basis["b"])
    u = zoo.to_vector(updates["b"])
    inside = rows.T @ (rows @ u)
    expected = inside + 0.1 * (u - inside)
    np.testing.assert_allclose(zoo.to_vector(capped["b"]), expected, atol=1e-5)


# --- in a tracker ---------------------------------------------------------------------


def test_in_a_tracker_it_acts_from_the_switch_on():
    """Descent on 9, 5 | 1, .7, ..: K = 2, and a bulk rate of 4 is twice the edge."""
    rate, steps, switch = 0.1, 8, 3
    inner = optax.chain(
        dominant.interpolate_project(1, 40), dominant.cap_bulk(40 * rate)
    )
    late = dominant.after_alignment(inner, threshold=-1, min_steps=switch)
    tx = dominant.track_subspace(
        optax.chain(optax.sgd(rate), late),
        dominant.hessian(tracked.loss_fn),
        tracked.K,
        refresh=dominant.every(3),
        tol=tracked.TOL,
    )
    params, states = tracked.train(tx, steps)
    guards = [state.inner_state[1].inner_state[1] for state in states]
    assert [int(guard.num_updates) for guard in guards] == [0, 0, *range(1, 7)]
    # What is certified of lambda_3 = 1 at each step: between 1 and 5.
    subspaces = [state.subspace for state in states]
    upper = np.array([s.next_eigenvalue + s.next_residual for s in subspaces])
    assert np.all((upper >= 1) & (upper < 5))
    engaged = np.arange(steps) >= switch - 1
    expected = np.where(engaged, 2 / (40 * rate * upper), 1)
    np.testing.assert_allclose([guard.scale for guard in guards], expected, rtol=1e-5)
    spectrum = tracked.SPECTRUM.astype(np.float64)
    expected = np.asarray(tracked.flat(tracked.PARAMS), np.float64)
    for capped, is_engaged in zip(2 / upper, engaged, strict=True):
        rates = np.where((spectrum < 5) & is_engaged, capped, rate)
        expected = expected * (1 - rates * spectrum)
    np.testing.assert_allclose(tracked.flat(params), expected, atol=1e-4)


def test_impossible_guards_are_refused():
    with pytest.raises(ValueError, match=r"fraction > 0, got 0"):
        dominant.cap_bulk(0.1, fraction=0.0)
    with pytest.raises(ValueError, match=r"learning_rate >= 0, got -0\.1"):
        dominant.cap_bulk(-0.1)
    tx = dominant.cap_bulk(0.1)
    with pytest.raises(ValueError, match="track_subspace"):
        tx.update(tracked.PARAMS, tx.init(tracked.PARAMS))
