"""The dimension that follows the gap: prescribed eigenvalues, and trackers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.tracked import DATA, K, expected_bulk_sgd, types

K_MAX = 5
LIKE = zoo.like(zoo.SMALL, jnp.float32)
ROWS = zoo.random_rows(K_MAX, zoo.SMALL, 0)
UPDATE = np.random.default_rng(1).standard_normal(zoo.SMALL)


def with_gap(position, ratio=4.0, base=1.1):
    """Eigenvalues [K_MAX + 1], all ratios `base` but the one after `position`."""
    ratios = np.full(K_MAX, base)
    ratios[position - 1] = ratio
    return np.append(np.cumprod(ratios[::-1])[::-1], 1.0)


def with_gaps(**gaps):
    """Eigenvalues [K_MAX + 1] with the ratios `g1=..` to `g5=..`, 1.1 elsewhere."""
    ratios = [gaps.get(f"g{i}", 1.1) for i in range(1, K_MAX + 1)]
    return np.append(np.cumprod(ratios[::-1])[::-1], 1.0)


@functools.partial(jax.jit, static_argnames=("k_min", "gain", "patience"))
def scanned(spectra, next_residuals, *, k_min, gain, patience):
    tx = dominant.choose_k(
        dominant.bulk_project(), k_min=k_min, gain=gain, patience=patience
    )
    basis, updates = zoo.from_rows(ROWS, LIKE), zoo.to_tree(UPDATE, LIKE)

    def step(state, at):
        spectrum, next_residual = at
        subspace = dominant.Subspace(
            eigenvalues=spectrum[:-1],
            basis=basis,
            residuals=jnp.zeros(K_MAX),
            next_eigenvalue=spectrum[-1],
            next_residual=next_residual,
            num_matvecs=jnp.zeros((), jnp.int32),
        )
        projected, state = tx.update(updates, state, subspace=subspace)
        return state, (projected, state.k, state.challenger, state.held)

    return jax.lax.scan(step, tx.init(updates), (spectra, next_residuals))[1]


def chosen(spectra, *, next_residual=0.0, k_min=1, gain=1.2, patience=3):
    """The k of each update, after a check of what is projected; 20 updates compiled."""
    count = len(spectra)
    spectra = np.concatenate([spectra, np.tile(spectra[-1:], (20 - count, 1))])
    residuals = np.full(20, next_residual, np.float32)
    projected, k, challenger, held = jax.tree.map(
        np.asarray,
        scanned(
            spectra.astype(np.float32),
            residuals,
            k_min=k_min,
            gain=gain,
            patience=patience,
        ),
    )
    for row, dimension in zip(zoo.to_rows(projected), k, strict=True):
        rows = ROWS[:dimension]
        expected = UPDATE - rows.T @ (rows @ UPDATE)
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert np.all((challenger > 0) == (held > 0))
    assert np.all(held < patience)
    return list(k[:count])


def times(spectrum, count):
    return [spectrum] * count


# --- prescribed eigenvalues -----------------------------------------------------------


@pytest.mark.parametrize("position", range(1, K_MAX + 1))
def test_it_starts_at_the_largest_gap(position):
    assert chosen([with_gap(position)]) == [position]


def test_a_challenger_has_to_hold_for_as_long_as_the_patience():
    before, after = with_gap(2), with_gap(4)
    spectra = times(before, 2) + times(after, 2) + times(before, 1) + times(after, 4)
    # Two updates are too few, and don't count for later; the third one changes k.
    assert chosen(spectra) == [2] * 7 + [4] * 2


def test_it_does_not_flap():
    """Gaps that take turns, each the largest half of the time: k stays."""
    spectra = [with_gap(2), with_gap(4)] * 10
    assert chosen(spectra) == [2] * 20
    # What it guards against.
    assert chosen(spectra, patience=1) == [2, 4] * 10


@pytest.mark.parametrize(("ratio", "expected"), [(2.39, 2), (2.41, 4)])
def test_a_challenger_has_to_be_larger_by_the_gain(ratio, expected):
    spectra = times(with_gap(2, 2.0), 1) + times(with_gaps(g2=2.0, g4=ratio), 9)
    assert chosen(spectra)[-1] == expected
    # The new one is held by the same rule.
    spectra += times(with_gaps(g2=2.0, g4=1.7), 9)
    assert chosen(spectra)[-1] == expected


def test_a_challenger_that_holds_is_not_displaced_by_a_larger_one():
    """3 and 4 take turns as the largest gap; both beat that of 2 all the time."""
    a, b = with_gaps(g2=2.0, g3=3.0, g4=3.5), with_gaps(g2=2.0, g3=3.5, g4=3.0)
    spectra = [with_gap(2), b, a, b, a, b, a]
    assert chosen(spectra) == [2, 2, 2, 3, 3, 3, 3]
    assert chosen(spectra, patience=2) == [2, 2, 3, 3, 3, 3, 3]


def test_a_new_challenger_starts_to_count_anew():
    spectra = [with_gap(2), with_gap(4), with_gap(4), *times(with_gap(3), 3)]
    assert chosen(spectra) == [2, 2, 2, 2, 2, 3]


def test_k_min_leaves_smaller_gaps_out():
    spectra = [with_gaps(g1=9.0, g3=2.0)]
    assert chosen(spectra) == [1]
    assert chosen(spectra, k_min=2) == [3]
    assert chosen(times(with_gap(3), 1) + times(with_gap(1), 9), k_min=2)[-1] == 3


@pytest.mark.parametrize(
    ("next_residual", "expected"),
    [(0.0, 5), (0.5, 5), (1.5, 3), (np.inf, 3), (np.nan, 3)],
)
def test_the_last_gap_is_what_is_certified_of_it(next_residual, expected):
    """4 over (1 + next_residual), beside 2 after the third."""
    spectra = [with_gaps(g3=2.0, g5=4.0)]
    assert chosen(spectra, next_residual=next_residual) == [expected]


@pytest.mark.parametrize(
    ("spectrum", "expected"),
    [
        # Below 1e-3 of the first all count alike: a ratio near zero says nothing.
        ([100, 90, 2, 1.9, 1e-6, 1e-9], 2),
        ([100, 90, 2, 1.9, 0, 0], 2),
        ([100, 90, 2, 1.9, -5, -6], 2),
        ([100, 90, 80, 70, -5, -6], 4),
        ([5, 4, 0, 0, -3, -4], 2),
        ([0, 0, 0, 0, 0, 0], 1),
        ([-1, -2, -3, -9, -10, -11], 1),
        ([100, 90, 80, 70, 65, -np.inf], 3),
        ([np.nan] * 6, 1),
        ([100, 90, 2, np.nan, np.nan, 1], 2),
    ],
)
def test_eigenvalues_that_are_not_positive(spectrum, expected):
    assert chosen([np.array(spectrum, float)]) == [expected]


def test_without_eigenvalues_k_stays():
    unknown = np.full(K_MAX + 1, np.nan)
    for nothing in (unknown, np.zeros(K_MAX + 1)):
        assert chosen([with_gap(3), *times(nothing, 9)], k_min=2) == [3] * 10
        assert chosen([nothing], k_min=2) == [2]


# --- in a tracker ---------------------------------------------------------------------

RATE = 0.1
PARAMS = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.array([0.5, -0.3])}


def loss_fn(params, spectrum):
    return 0.5 * jnp.sum(spectrum * zoo.flatten(params) ** 2)


def tracker(inner, k=4, **options):
    return dominant.track_subspace(
        dominant.choose_k(inner, patience=2),
        dominant.hessian(loss_fn),
        k,
        refresh=dominant.every(2),
        tol=1e-6,
        **options,
    )


def trained(tx, params, spectra):
    """Scan over the steps' spectra; return the params and the states after each."""

    def step(carry, spectrum):
        params, state = carry
        gradient = jax.grad(loss_fn)(params, spectrum)
        updates, state = tx.update(gradient, state, params, curvature_data=spectrum)
        return (optax.apply_updates(params, updates), state), state

    (params, _), states = jax.lax.scan(step, (params, tx.init(params)), spectra)
    return params, states


# Of the tracked loss: 9, 5 | 1, .7, .5, ..; the gap moves behind the third.
LATER = jnp.array([9.0, 8.0, 7.0, 0.7, 0.5, 0.3, 0.2, 0.1])


def test_in_a_tracker_k_follows_the_spectrum_of_each_member():
    """Refreshed at updates 0, 2, 4, ..: the third beats the second from 4 on."""
    tx = tracker(
        optax.chain(optax.sgd(RATE), dominant.bulk_project()), axis_name="seeds"
    )
    moving = jnp.stack([*times(DATA, 4), *times(LATER, 6)])
    spectra = jnp.stack([moving, jnp.stack(times(DATA, 10))])
    params, states = jax.jit(
        jax.vmap(functools.partial(trained, tx), (None, 0), axis_name="seeds")
    )(PARAMS, spectra)
    k = states.inner_state.k
    assert list(k[0]) == [2] * 5 + [3] * 5
    assert list(k[1]) == [2] * 10
    assert list(states.inner_state.challenger[0]) == [0] * 4 + [3] + [0] * 5
    theta = np.asarray(zoo.flatten(PARAMS), np.float64)
    for spectrum, dimension in zip(np.asarray(moving), k[0], strict=True):
        is_bulk = np.arange(8) >= int(dimension)
        theta = theta * (1 - RATE * is_bulk * spectrum.astype(np.float64))
    members = [zoo.to_vector(jax.tree.map(lambda p, i=i: p[i], params)) for i in (0, 1)]
    np.testing.assert_allclose(members[0], theta, atol=1e-5)
    np.testing.assert_allclose(members[1], expected_bulk_sgd(10), atol=1e-5)


def test_the_switch_and_the_guard_see_the_leading_space():
    """chi_2 of a gradient within the first two is 1, and the edge is that of 1, not 5.

    As the third eigenvalue is tracked, too, it is known to the tolerance.
    """
    within = {"a": jnp.zeros((2, 3)).at[0].set(jnp.array([1.0, 2.0, 0])), "b": None}
    within["b"] = jnp.zeros(2)
    inner = optax.chain(
        optax.sgd(RATE),
        dominant.after_alignment(
            optax.chain(
                dominant.interpolate_project(0, 40), dominant.cap_bulk(40 * RATE)
            ),
            threshold=0.5,
            decay=0.6,
        ),
    )
    _, states = jax.jit(functools.partial(trained, tracker(inner)))(
        within, jnp.stack(times(DATA, 4))
    )
    switch = states.inner_state.inner_state[1]
    np.testing.assert_allclose(switch.average, [0.4, 0.64, 0.64, 0.64], atol=1e-5)
    np.testing.assert_array_equal(states.inner_state.k, [K] * 4)
    scale = switch.inner_state[1].scale
    np.testing.assert_allclose(scale, [1, 0.5, 0.5, 0.5], rtol=1e-4)


def test_the_state_is_one_that_optax_and_jit_can_handle():
    inner = optax.chain(
        optax.adam(RATE), dominant.bulk_project(), dominant.cap_bulk(RATE)
    )
    tx = tracker(inner)
    state = tx.init(PARAMS)
    leaves = jax.tree.leaves(state)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)

    def update(state, params, data):
        return tx.update(params, state, params, curvature_data=data)[1]

    after = jax.eval_shape(update, state, PARAMS, DATA)
    assert types(after) == types(state)
    mapped = optax.tree.map_params(tx, lambda p: p + 1, state)
    moments = mapped.inner_state.inner_state[0][0]
    np.testing.assert_array_equal(moments.mu["a"], np.ones((2, 3)))
    np.testing.assert_array_equal(mapped.subspace.basis["b"], np.ones((4, 2)))
    counts = (mapped.inner_state.k, mapped.inner_state.held, moments.count)
    assert [int(count) for count in counts] == [0, 0, 0]


@pytest.mark.parametrize("wrong", [{"k_min": 0}, {"gain": 0.9}, {"patience": 0}])
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(ValueError, match="choose_k needs"):
        dominant.choose_k(dominant.bulk_project(), **wrong)


def test_what_is_missing_is_named():
    tx = dominant.choose_k(dominant.bulk_project(), k_min=6)
    updates = zoo.to_tree(UPDATE, LIKE)
    with pytest.raises(ValueError, match="track_subspace"):
        tx.update(updates, tx.init(updates))
    subspace = zoo.subspace(ROWS, LIKE)
    with pytest.raises(ValueError, match=r"k_min = 6, but got .* dimension 5"):
        tx.update(updates, tx.init(updates), subspace=subspace)
