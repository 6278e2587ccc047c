"""The tracker: when it solves, what it keeps, and how it meets optax's wrappers.

Products are counted as *executed*, by a callback in the product itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant

K = 2
TOL = 1e-6
SPECTRUM = np.array([9.0, 5.0, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1], np.float32)
PARAMS = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.array([0.5, -0.3])}
DATA = jnp.asarray(SPECTRUM)


def flat(tree):
    return jnp.concatenate([tree["a"].ravel(), tree["b"]])


def loss_fn(params, spectrum):
    return 0.5 * jnp.sum(spectrum * flat(params) ** 2)


class Counter:
    """A curvature that counts the products executed on the device."""

    def __init__(self):
        self.products = 0

    def _add(self):
        self.products += 1

    def __call__(self, params, data):
        product = dominant.hessian(loss_fn)(params, data)

        def matvec(v):
            jax.debug.callback(self._add)
            return product(v)

        return matvec

    def read(self):
        jax.effects_barrier()
        return self.products


@pytest.fixture
def counter():
    return Counter()


def train(tx, num_steps, params=PARAMS, data=DATA, **extra):
    """Run jitted steps; return the params and the states after each."""

    @jax.jit
    def step(params, state, data):
        gradients = jax.grad(loss_fn)(params, data)
        updates, state = tx.update(
            gradients, state, params, curvature_data=data, **extra
        )
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    states = []
    for _ in range(num_steps):
        params, state = step(params, state, data)
        states.append(state)
    assert step._cache_size() == 1, "the step was compiled more than once"
    return params, states


def types(state):
    def describe(leaf):
        return leaf.shape, leaf.dtype, leaf.weak_type

    leaves, structure = jax.tree.flatten(state)
    return structure, [describe(leaf) for leaf in leaves]


def bulk_sgd(curvature, refresh, **options):
    inner = optax.chain(optax.sgd(0.1), dominant.bulk_project())
    return dominant.track_subspace(
        inner, curvature, K, refresh=refresh, tol=TOL, **options
    )


# --- cadence --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 10])
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

    # scan itself refuses a carry whose types change.
    (_, last), _ = jax.lax.scan(step, (PARAMS, state), length=5)
    assert types(state) == types(last)


def test_dominant_coordinates_freeze_and_the_bulk_decays():
    params, _ = train(bulk_sgd(dominant.hessian(loss_fn), dominant.every(5)), 50)
    start, end = np.asarray(flat(PARAMS)), np.asarray(flat(params))
    np.testing.assert_allclose(end[:K], start[:K], atol=1e-5)
    expected = start[K:] * (1 - 0.1 * SPECTRUM[K:]) ** 50
    np.testing.assert_allclose(end[K:], expected, atol=1e-5)


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
    gradients = jax.grad(loss_fn)(PARAMS, DATA)
    state = tx.init(PARAMS)
    _, state = tx.update(gradients, state, PARAMS, curvature_data=DATA, value=1.5)
    assert seen["value"] == 1.5
    assert seen["curvature_data"] is DATA
    assert seen["gradient"] is gradients
    assert seen["params"] is PARAMS
    assert seen["subspace"] is state.subspace
    full = jax.tree.map(jnp.ones_like, gradients)
    tx.update(gradients, state, PARAMS, curvature_data=DATA, gradient=full)
    assert seen["gradient"] is full


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

    @jax.jit
    def update(params, state):
        gradients = jax.grad(loss_fn)(params, DATA)
        return tx.update(gradients, state, params, curvature_data=DATA)

    donating = jax.jit(update, donate_argnums=1)
    expected, _ = update(PARAMS, tx.init(PARAMS))
    actual, _ = donating(PARAMS, state)
    np.testing.assert_array_equal(flat(actual), flat(expected))


# --- optax's wrappers -----------------------------------------------------------------


def test_apply_if_finite_and_inject_hyperparams_inside(counter):
    inner = optax.chain(
        optax.apply_if_finite(
            optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), 3
        ),
        dominant.bulk_project(),
    )
    tx = dominant.track_subspace(inner, counter, K, refresh=dominant.every(5), tol=TOL)
    wrapped, states = train(tx, 20)
    plain, _ = train(bulk_sgd(dominant.hessian(loss_fn), dominant.every(5)), 20)
    np.testing.assert_allclose(flat(wrapped), flat(plain), atol=1e-6)
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
    expected, _ = train(bulk_sgd(dominant.hessian(loss_fn), dominant.every(1)), 3)
    np.testing.assert_allclose(flat(params), flat(expected), atol=1e-6)


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
    params, states = train(tx, 10)
    expected, _ = train(bulk_sgd(dominant.hessian(loss_fn), dominant.every(5)), 10)
    np.testing.assert_allclose(flat(params), flat(expected), atol=1e-6)
    assert float(states[-1].hyperparams["learning_rate"]) == pytest.approx(0.1)
    assert counter.read() == int(states[-1].inner_state.total_matvecs)


# --- vmap -----------------------------------------------------------------------------


def watching(n):
    """Refresh every n steps, by a predicate that depends on each member's own data."""
    fixed = dominant.every(n)

    def due(state):
        return fixed.due(state) | (state.angle > 100)

    return dominant.RefreshPolicy(due, fixed.next_interval)


def train_seeds(counter, axis_name, num_steps, refresh):
    """Train three members under vmap; return params and products [members, steps]."""
    tx = bulk_sgd(counter, refresh, axis_name=axis_name)

    def member(params, data):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(
                jax.grad(loss_fn)(params, data), state, params, curvature_data=data
            )
            return (optax.apply_updates(params, updates), state), state.total_matvecs

        carry = (params, tx.init(params))
        (params, _), products = jax.lax.scan(step, carry, length=num_steps)
        return params, jnp.diff(products, prepend=0)

    return jax.jit(jax.vmap(member, axis_name="seeds"))(SEEDS, SEED_DATA)


SCALES = jnp.array([1.0, 0.5, -2.0])
SEEDS = jax.tree.map(lambda p: SCALES.reshape((-1,) + (1,) * p.ndim) * p, PARAMS)
# Another curvature for each member, so that nothing in its solve is shared.
SEED_DATA = jnp.stack([DATA, DATA[::-1], DATA**2 / 9])


def test_seeds_under_vmap_share_the_decision(counter):
    num_steps = 20
    params, products = train_seeds(counter, "seeds", num_steps, watching(5))
    assert list(np.flatnonzero(products[0])) == [0, 5, 10, 15]
    # A real branch: each refresh executes the products of its worst member, all
    # members' at once, and the other steps execute none.
    assert counter.read() == int(jnp.sum(jnp.max(products, axis=0)))
    for seed, scale in enumerate(SCALES):
        alone = jax.tree.map(lambda p, scale=scale: scale * p, PARAMS)
        expected, _ = train(
            bulk_sgd(dominant.hessian(loss_fn), dominant.every(5)),
            num_steps,
            alone,
            SEED_DATA[seed],
        )
        member = jax.tree.map(lambda p, seed=seed: p[seed], params)
        np.testing.assert_allclose(flat(member), flat(expected), atol=1e-5)


def staggered():
    """Members choose intervals 3, 3 and 4."""
    return dominant.RefreshPolicy(
        due=lambda state: state.steps_since_refresh >= state.interval,
        next_interval=lambda state: jnp.where(state.subspace.eigenvalues[1] > 4, 3, 4),
    )


@pytest.mark.parametrize(
    ("axis_name", "expected"),
    [(None, [[0, 3, 6, 9], [0, 3, 6, 9], [0, 4, 8]]), ("seeds", [[0, 3, 6, 9]] * 3)],
    ids=["apart", "together"],
)
def test_only_steps_at_which_a_member_is_due_execute_products(
    axis_name, expected, counter
):
    """Without axis_name, too: members then refresh when they choose, and all wait."""
    _, products = train_seeds(counter, axis_name, 10, staggered())
    assert [list(np.flatnonzero(p)) for p in products] == expected
    num_solves = len(set().union(*expected))
    worst = int(jnp.max(products))
    assert num_solves * K <= counter.read() <= num_solves * worst


def test_a_member_that_has_ended_keeps_its_basis_and_asks_for_nothing(counter):
    """Two members refresh together each 2 steps; the second one ends after 5."""
    tx = bulk_sgd(counter, dominant.every(2), axis_name="seeds")
    seeds = jax.tree.map(lambda p: p[:2], SEEDS)
    last = jnp.array([9, 5])

    def member(params, data, last):
        def step(carry, i):
            params, state = carry
            active = i < last
            updates, state = tx.update(
                jax.grad(loss_fn)(params, data),
                state,
                params,
                curvature_data=data * (1 + i),
                active=active,
            )
            updates = jax.tree.map(lambda u: jnp.where(active, u, 0), updates)
            params = optax.apply_updates(params, updates)
            return (params, state), state

        carry = (params, tx.init(params))
        return jax.lax.scan(step, carry, jnp.arange(9))[1]

    program = jax.jit(jax.vmap(member, axis_name="seeds"))
    states = jax.block_until_ready(program(seeds, SEED_DATA[:2], last))
    products = jnp.diff(states.total_matvecs, prepend=0)
    assert list(np.flatnonzero(products[0])) == [0, 2, 4, 6, 8]
    assert list(np.flatnonzero(products[1])) == [0, 2, 4]
    assert list(states.refreshes[1]) == [1, 1, 2, 2, 3, 3, 3, 3, 3]
    assert list(states.steps_since_refresh[1]) == [1, 2, 1, 2, 1, 1, 1, 1, 1]
    for leaf in jax.tree.leaves(states.subspace):
        for later in range(5, 9):
            np.testing.assert_array_equal(leaf[1, later], leaf[1, 4])
    # Its last basis is that of its last refresh: eigenvalues scale with the data.
    expected = np.sort(np.asarray(SEED_DATA[1]))[::-1][:K] * 5
    np.testing.assert_allclose(states.subspace.eigenvalues[1, -1], expected, rtol=1e-4)

    # When all have ended, nothing is executed any more.
    before = counter.read()
    jax.block_until_ready(program(seeds, SEED_DATA[:2], jnp.array([1, 1])))
    first_solve = int(jnp.max(products[:, 0]))
    assert counter.read() - before == first_solve


def test_solves_in_blocks_track_the_same_space(counter):
    params, states = train(bulk_sgd(counter, dominant.every(3), block_size=K), 7)
    expected, _ = train(bulk_sgd(counter, dominant.every(3)), 7)
    np.testing.assert_allclose(flat(params), flat(expected), rtol=1e-5)
    np.testing.assert_allclose(states[-1].subspace.eigenvalues, SPECTRUM[:K], rtol=1e-5)
    # A warm block still passes: K products, and those of the probe.
    assert int(states[3].total_matvecs - states[2].total_matvecs) <= K + len(SPECTRUM)


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
