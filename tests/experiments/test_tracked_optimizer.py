"""The optimizer of a run, in the tracker: its branches, its state, its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments import optimizers, records
from experiments.tasks import Task
from tests.experiments.branches import MODES, NUM_PARAMETERS, K, flat, make_config, tree

RNG = np.random.default_rng(0)
PARAMS = RNG.normal(size=NUM_PARAMETERS)


# --- training -------------------------------------------------------------------------

EIGENVALUES = np.array([5.0, 4.0, *np.linspace(1, 0.1, NUM_PARAMETERS - K)])
VECTORS = np.linalg.qr(RNG.normal(size=(NUM_PARAMETERS, NUM_PARAMETERS)))[0]
HESSIAN = (VECTORS * EIGENVALUES) @ VECTORS.T
INSIDE = VECTORS[:, :K] @ VECTORS[:, :K].T  # [15, 15], the projector


def quadratic():
    """The task ½ theta^T H theta, whose data are factors of H."""

    def loss_fn(params, data):
        theta = jnp.concatenate([params["b"], params["w"].ravel()])
        return 0.5 * jnp.mean((data @ theta) ** 2)

    factors = VECTORS * np.sqrt(NUM_PARAMETERS * EIGENVALUES)
    return Task(
        init=lambda key: tree(PARAMS),
        loss_fn=loss_fn,
        predict_fn=None,
        output_loss_fn=None,
        train=jnp.asarray(factors.T, jnp.float32),
        test=None,
    )


def test_sam_and_momentum_in_a_tracker_of_branches_and_finished_members():
    config = make_config(
        name="heavy_ball", momentum=0.9, sam_rho=0.2, learning_rate=0.05
    )
    config.subspace.refresh_every = 2
    config.subspace.tol = 1e-6
    task = quadratic()
    weights = [optimizers.projection_weights(config, mode) for mode in MODES]
    active = np.array([True, True, True, False])

    @jax.jit
    def run(weights, active, params, train):
        def member(weights, active):
            tx = optimizers.tracked_optimizer(config, task, *weights)

            def step(carry, i):
                params, state = carry
                gradient = jax.grad(task.loss_fn)(params, train)
                updates, state = tx.update(
                    gradient,
                    state,
                    params,
                    curvature_data=train,
                    gradient=gradient,
                    grad_fn=lambda params, _: jax.grad(task.loss_fn)(params, train),
                    active=active | (i == 0),
                )
                params = jax.tree.map(jnp.add, params, updates)
                return (params, state), params

            return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(5))

        return jax.vmap(member)(weights, active)

    (_, state), paths = run(
        jnp.asarray(weights, jnp.float32), active, tree(PARAMS), task.train
    )
    for (dom, bulk), path in zip(weights, flat(paths), strict=True):
        theta, m = PARAMS, 0.0
        for got in path:
            g = HESSIAN @ theta
            m = 0.9 * m + HESSIAN @ (theta + 0.2 * g / np.linalg.norm(g))
            inside = INSIDE @ m
            theta = theta - 0.05 * (dom * inside + bulk * (m - inside))
            np.testing.assert_allclose(got, theta, atol=1e-5)
    # Updates 1, 3 and 5 refresh; a member that is not active only the first time.
    assert list(state.refreshes) == [3, 3, 3, 1]
    assert np.all(optimizers.switch_state(state).engaged)


def test_the_switch_state_is_found_on_either_side():
    for acts_on in ("update", "gradient"):
        config = make_config()
        config.projection.acts_on = acts_on
        tx = optimizers.tracked_optimizer(config, quadratic(), 1.0, 1.0)
        state = jax.eval_shape(tx.init, tree(PARAMS))
        switch = optimizers.switch_state(state)
        assert isinstance(switch, dominant.AfterAlignmentState)


def test_a_state_survives_its_checkpoint(tmp_path):
    """Muon and SAM have states with holes in the tree."""
    config = make_config(name="muon", momentum=0.95, sam_rho=0.1, schedule="linear")
    tx = optimizers.tracked_optimizer(config, quadratic(), 1.0, 1.0)
    state = tx.init(tree(PARAMS))
    numbered = iter(range(1, 100))
    state = jax.tree.map(lambda leaf: jnp.full_like(leaf, next(numbered)), state)
    records.save_named(tmp_path, "state", state)
    restored = records.restore_named(tmp_path, "state", tx.init(tree(PARAMS)))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_the_subspace_fields_reach_the_tracker(monkeypatch):
    config = make_config()
    config.subspace.update({"k": 4, "tol": 0.01, "block_size": 3})
    seen = {}
    monkeypatch.setattr(
        dominant, "track_subspace", lambda inner, **options: seen.update(options)
    )
    optimizers.tracked_optimizer(config, quadratic(), 1.0, 1.0, axis_name="seeds")
    assert (seen["k"], seen["tol"], seen["block_size"]) == (4, 0.01, 3)
    assert seen["axis_name"] == "seeds"


@pytest.mark.parametrize(
    ("at_once", "num_examples", "in_chunks"),
    [(0, 0, False), (4, 0, True), (15, 0, False), (4, 6, True), (6, 6, False)],
)
def test_the_curvature_is_in_chunks_where_its_data_are_too_many(
    at_once, num_examples, in_chunks
):
    config, task = make_config(), quadratic()
    config.examples_at_once = at_once
    config.subspace.num_examples = num_examples
    data = optimizers.curvature_data(config, task, task.train)
    assert len(data) == (num_examples or NUM_PARAMETERS)

    def product(params, v):
        return optimizers.tracked_curvature(config, task)(params, data)(v)

    v = tree(np.ones(NUM_PARAMETERS))
    factors = np.asarray(data, np.float64)
    expected = factors.T @ (factors @ flat(v)) / len(factors)
    result = flat(jax.jit(product)(tree(PARAMS), v))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    jaxpr = str(jax.make_jaxpr(product)(tree(PARAMS), v))
    assert ("while" in jaxpr or "scan" in jaxpr) == in_chunks


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer.momentum": 0.9}, "momentum = 0.9 has no effect"),
        ({"projection.acts_on": "params"}, "known ones: gradient, update"),
        ({"projection.acts_on": "gradient", "optimizer.sam_rho": 0.1}, "SAM replaces"),
        ({"modes": ("plain",)}, r"projection\.dom = 0\.3 has no effect"),
        ({"switch.threshold": 0.5}, r"threshold = 0\.5 has no effect .*switch\.step"),
        ({"switch.min_steps": 5}, "min_steps = 5 has no effect"),
        ({"switch.step": 20}, "switch.step must be below steps = 20"),
        ({"subspace.block_size": 3}, "block_size must be between 1 and k = 2, got 3"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    config = make_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        optimizers.check(config)
    with pytest.raises(ValueError, match=message):
        optimizers.tracked_optimizer(config, quadratic(), 1.0, 1.0)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="known ones: bulk, dom, interpolated, plain"):
        optimizers.projection_weights(make_config(), "dominant")
