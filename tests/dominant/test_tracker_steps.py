"""The tracker in pieces, against the tracker that takes its products itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant

K = 2
PARAMS = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.array([0.5, -0.3])}
SCALES = jnp.asarray([9.0, 5.0, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1])


def loss_fn(params, scales):
    """Not a quadratic: the dominant space turns."""
    theta = jnp.concatenate([params["a"].ravel(), params["b"]])
    return jnp.sum(scales * (theta + 0.2 * jnp.roll(theta, 1)) ** 2 + theta**4) / 2


@pytest.mark.parametrize("refresh", [dominant.every(3), dominant.adaptive(0.005)])
@pytest.mark.parametrize("block_size", [1, K])
def test_the_pieces_together_are_the_tracker(refresh, block_size):
    inner = optax.chain(optax.sgd(0.02, momentum=0.5), dominant.bulk_project())
    options = {"refresh": refresh, "tol": 1e-5, "block_size": block_size}
    tx = dominant.track_subspace(inner, dominant.hessian(loss_fn), K, **options)
    pieces = dominant.tracker_steps(inner, K, **options)
    steps = dominant.TrackerSteps(*map(jax.jit, pieces))
    update = jax.jit(tx.update)

    @jax.jit
    def products(params, block):
        return jax.vmap(dominant.hessian(loss_fn)(params, SCALES))(block)

    params, state, taken = PARAMS, steps.init(PARAMS), 0
    whole_params, whole_state = PARAMS, tx.init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(whole_state)
    for _ in range(12):
        gradient = jax.grad(loss_fn)(params, SCALES)
        if steps.due(state):
            search = steps.start(state)
            while not search.done:
                search, block = steps.propose(search)
                search = steps.absorb(search, products(params, block))
            taken += int(search.num_matvecs)
            state = steps.refreshed(state, search, gradient)
        updates, state = steps.update(gradient, state, params)
        params = optax.apply_updates(params, updates)

        gradient = jax.grad(loss_fn)(whole_params, SCALES)
        updates, whole_state = update(
            gradient, whole_state, whole_params, curvature_data=SCALES
        )
        whole_params = optax.apply_updates(whole_params, updates)
        for a, b in zip(
            jax.tree.leaves((params, state)),
            jax.tree.leaves((whole_params, whole_state)),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert int(state.refreshes) > 2
    assert taken == int(state.total_matvecs) == int(whole_state.total_matvecs)


def test_it_refuses_what_the_solver_refuses():
    with pytest.raises(ValueError, match="block_size must be between 1 and k = 2"):
        dominant.tracker_steps(
            optax.identity(), K, refresh=dominant.every(1), block_size=3
        )
