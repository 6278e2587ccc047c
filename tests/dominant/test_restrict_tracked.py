"""Blocks of a curvature, tracked, and as a block-diagonal whole."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import zoo
from tests.dominant.layers import BLOCKS, HESSIAN, PROBLEM, SIZES, given, layer

pytestmark = pytest.mark.usefixtures("strict")


# --- tracked --------------------------------------------------------------------------


def steps(tx, num_steps, params, data):
    """Run jitted updates on full gradients; return the params and all states."""

    @jax.jit
    def step(params, state, data):
        gradient = jax.grad(PROBLEM.loss_fn)(params, data)
        updates, state = tx.update(gradient, state, params, curvature_data=data)
        return optax.apply_updates(params, updates), state

    trajectory, state = [(params, None)], tx.init(params)
    for _ in range(num_steps):
        params, state = step(params, state, data)
        trajectory.append((params, state))
    return trajectory


def test_a_tracked_block_costs_memory_for_its_own_leaves_alone():
    params, data = given(jnp.float32)
    tx = dominant.track_subspace(
        optax.chain(optax.sgd(0.1), dominant.bulk_project()),
        dominant.in_batches(dominant.restrict(HESSIAN, layer(1)), 3),
        2,
        refresh=dominant.every(2),
    )
    state = tx.init(params)
    assert sum(b.size for b in jax.tree.leaves(state.subspace.basis)) == 2 * SIZES[1]

    def update(gradient, state, params, data):
        return tx.update(gradient, state, params, curvature_data=data)[1]

    after = jax.eval_shape(update, params, state, params, data)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    types = [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == types
    # optax runs init on a tree without leaves; the counts are none of the params.
    mapped = optax.tree.map_params(tx, lambda p: p + 1, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    for a, b in zip(
        jax.tree.leaves(mapped.subspace.basis),
        jax.tree.leaves(state.subspace.basis),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b + 1)


# --- a block-diagonal dominant space --------------------------------------------------

RATE = 0.5
KS = (2, 3)


def track(inner, index):
    return dominant.track_subspace(
        inner,
        dominant.restrict(HESSIAN, layer(index)),
        KS[index],
        refresh=dominant.every(1),
        tol=1e-8,
    )


def complement(inner):
    """What `inner` removes: u - inner(u)."""

    def update(updates, state, params=None, **extra):
        rest, state = inner.update(updates, state, params, **extra)
        return jax.tree.map(jnp.subtract, updates, rest), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def layers():
    return optax.chain(*[track(dominant.bulk_project(), i) for i in (0, 1)])


def nest():
    return track(
        optax.chain(track(dominant.bulk_project(), 0), dominant.bulk_project()), 1
    )


PER_LAYER = {
    "bulk, a chain": lambda: optax.chain(optax.sgd(RATE), layers()),
    "dom, a nest": lambda: optax.chain(optax.sgd(RATE), complement(nest())),
}


@functools.cache
def dense_functions():
    _, unravel = ravel_pytree(zoo.cast(PROBLEM.params, jnp.float64))
    data = zoo.cast(PROBLEM.data, jnp.float64)

    def loss(theta, data):
        return PROBLEM.loss_fn(unravel(theta), data)

    gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
    return (
        lambda theta: np.asarray(gradient(theta, data)),
        lambda theta: np.asarray(hessian(theta, data)),
    )


@pytest.mark.parametrize("name", PER_LAYER)
@pytest.mark.usefixtures("x64")
def test_block_diagonal_projections_equal_dense_ones_at_each_step(name):
    params, data = given(jnp.float64)
    gradient, hessian = dense_functions()
    trajectory = steps(PER_LAYER[name](), 6, params, data)
    moved = 0.0
    for (before, _), (after, _) in itertools.pairwise(trajectory):
        theta = zoo.to_vector(before)
        matrix = hessian(theta)
        inside = np.zeros((len(theta), len(theta)))
        for block, k in zip(BLOCKS, KS, strict=True):
            reference = zoo.reference(matrix[block, block])
            assert reference.gap(k) > 1e-3 * reference.norm
            u = reference.vectors[:k]
            inside[block, block] = u.T @ u
        update = -RATE * gradient(theta)
        expected = inside @ update if "dom" in name else update - inside @ update
        difference = zoo.to_vector(after) - theta
        # tol 1e-8 over gaps of 1e-3 is 1e-5 of the update
        assert np.linalg.norm(difference - expected) <= 1e-5 * np.linalg.norm(update)
        moved += np.linalg.norm(inside @ update)
    assert moved > 0  # the dominant part was there to be kept or removed


def test_each_projection_of_a_nest_sees_its_own_subspace():
    """The inner tracker replaces `subspace` for its own inner transformation only."""
    seen = {}

    def spy(name):
        def update(updates, state, params=None, *, subspace, **extra):
            seen[name] = subspace
            return updates, state

        return optax.GradientTransformationExtraArgs(
            lambda _: optax.EmptyState(), update
        )

    inner = track(spy("inner"), 0)
    tx = track(optax.chain(spy("before"), inner, spy("after")), 1)

    def update(params, data):
        gradient = jax.grad(PROBLEM.loss_fn)(params, data)
        _, state = tx.update(gradient, tx.init(params), params, curvature_data=data)
        assert seen["before"] is seen["after"] is state.subspace
        assert seen["inner"] is state.inner_state[1].subspace
        return seen["inner"], seen["after"]

    own = jax.eval_shape(update, *given(jnp.float32))  # the wiring: nothing is run
    for index, subspace in enumerate(own):
        assert subspace.eigenvalues.shape == (KS[index],)
        assert jax.tree.leaves(subspace.basis["layers"][1 - index]) == []
