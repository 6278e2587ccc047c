"""The tracker under vmap: members that share its decisions, and its products."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant.tracked import (
    DATA,
    PARAMS,
    K,
    bulk_sgd,
    expected_bulk_sgd,
    flat,
    loss_fn,
)


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
        expected = expected_bulk_sgd(num_steps, alone, SEED_DATA[seed])
        member = jax.tree.map(lambda p, seed=seed: p[seed], params)
        np.testing.assert_allclose(flat(member), expected, atol=1e-5)


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
