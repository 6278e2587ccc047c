"""The guard, the adaptive k and the ramp of a run's optimizer, and their records."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments import optimizers, train
from tests.experiments.branches import NUM_PARAMETERS, flat, make_config, tree
from tests.experiments.runs import lines_of, small_config

RNG = np.random.default_rng(0)
VECTORS = np.linalg.qr(RNG.normal(size=(NUM_PARAMETERS, 3)))[0]
GRADIENT = RNG.normal(size=NUM_PARAMETERS)
EIGENVALUES, NEXT = [100.0, 80.0, 4.0], 3.5  # the gap is behind the second


def updates_of(config, dom, bulk, num_updates):
    """Updates [T, 15] on a constant gradient, and the states after each."""
    tx = optimizers.projected_optimizer(config, dom, bulk)
    if config.subspace.adaptive_k:
        tx = dominant.choose_k(tx)
    subspace = dominant.Subspace(
        eigenvalues=jnp.array(EIGENVALUES),
        basis=tree(VECTORS.T),
        residuals=jnp.zeros(3),
        next_eigenvalue=jnp.float32(NEXT),
        next_residual=jnp.zeros(()),
        num_matvecs=jnp.zeros((), jnp.int32),
    )
    gradient = tree(GRADIENT)

    @jax.jit
    def run(subspace):
        def step(state, _):
            updates, state = tx.update(
                gradient, state, gradient, subspace=subspace, gradient=gradient
            )
            return state, (updates, state)

        return jax.lax.scan(step, tx.init(gradient), length=num_updates)[1]

    updates, states = run(subspace)
    return flat(updates), states


def inside(k):
    return VECTORS[:, :k] @ (VECTORS[:, :k].T @ GRADIENT)


def test_the_ramp_is_a_line_from_the_switch_on():
    config = make_config(learning_rate=1.0)
    config.switch.step = 3
    config.projection.update({"ramp_steps": 4, "dom_end": 0.1, "bulk_end": 4.7})
    weights = zip(
        optimizers.projection_weights(config, "interpolated"),
        optimizers.projection_ends(config, "interpolated"),
        strict=True,
    )
    schedules = [optimizers.ramp(config, *map(jnp.float32, pair)) for pair in weights]
    updates, _ = updates_of(config, *schedules, 9)
    since = np.clip(np.arange(9) - 2, 0, 4)[:, None] / 4
    dom, bulk = 0.3 - 0.2 * since, 0.7 + 4.0 * since
    expected = dom * inside(3) + bulk * (GRADIENT - inside(3))
    expected[:2] = GRADIENT
    np.testing.assert_allclose(updates, -expected, atol=1e-5)
    for mode in ("plain", "dom", "bulk"):
        ends = optimizers.projection_ends(config, mode)
        assert ends == optimizers.projection_weights(config, mode)


EDGES = {"sgd": 2, "gd": 2, "heavy_ball": 3.8, "nesterov": 3.8 / 2.8}


@pytest.mark.parametrize("name", EDGES)
def test_the_guard_is_a_fraction_of_the_optimizers_edge(name):
    momentum = 0.9 if name in ("heavy_ball", "nesterov") else 0.0
    config = make_config(name=name, momentum=momentum, learning_rate=1.0)
    free, _ = updates_of(config, 0.5, -2.0, 3)
    config.projection.cap_bulk = 0.8
    capped, states = updates_of(config, 0.5, -2.0, 3)
    scale = 0.8 * EDGES[name] / (2.0 * NEXT)
    kept = free @ (VECTORS @ VECTORS.T)
    expected = kept + scale * (free - kept)
    np.testing.assert_allclose(capped, expected, atol=1e-5 * abs(free).max())
    guard = states[-1].inner_state[-1]
    np.testing.assert_allclose(guard.scale, [scale] * 3, rtol=1e-5)
    plain, _ = updates_of(config, 1.0, 1.0, 3)
    config.projection.cap_bulk = 0.0
    np.testing.assert_array_equal(plain, updates_of(config, 1.0, 1.0, 3)[0])


def test_the_guard_follows_the_ramp_and_the_adaptive_k():
    config = make_config(learning_rate=1.0)
    config.projection.update({"ramp_steps": 4, "cap_bulk": 1.0})
    config.subspace.adaptive_k = True
    ramp = optimizers.ramp(config, jnp.float32(0), jnp.float32(1))
    updates, states = updates_of(config, 0.0, ramp, 6)
    assert list(states.k) == [2] * 6
    bulk = np.minimum(np.arange(6) / 4, 1)
    # lambda_3 = 4, as the third is not in use.
    effective = np.minimum(bulk, 2 / 4.0)
    expected = effective[:, None] * (GRADIENT - inside(2))
    np.testing.assert_allclose(updates, -expected, atol=1e-5)
    assert effective[1] == 0.25 < effective[2] == effective[5]


def test_the_states_are_found_in_both_kinds_of_tracker():
    config = make_config()
    config.projection.cap_bulk = 1.0
    config.subspace.adaptive_k = True
    stepwise = optimizers.stepwise_optimizer(config, 1.0, 1.0)
    state = jax.eval_shape(stepwise.init, tree(GRADIENT))
    for kind in (dominant.ChooseKState, dominant.CapBulkState):
        assert len(optimizers.states_of(kind, state)) == 1
    assert isinstance(optimizers.switch_state(state), dominant.AfterAlignmentState)
    config.projection.cap_bulk, config.subspace.adaptive_k = 0.0, False
    stepwise = optimizers.stepwise_optimizer(config, 1.0, 1.0)
    state = jax.eval_shape(stepwise.init, tree(GRADIENT))
    for kind in (dominant.ChooseKState, dominant.CapBulkState):
        assert optimizers.states_of(kind, state) == []
    assert optimizers.subspace_in_use(state) is state.subspace


# --- a run ----------------------------------------------------------------------------


def test_a_run_logs_what_was_chosen(tmp_path):
    config = small_config()
    config.modes = ("plain", "interpolated")
    config.projection.update(
        {"dom": 0.0, "bulk_end": 200.0, "dom_end": 0.0, "ramp_steps": 5}
    )
    config.projection.cap_bulk = 0.5
    config.subspace.adaptive_k = True
    config.subspace.k = 6
    config.measure.certificate = 1
    assert train.run(config, tmp_path)["status"] == "finished"
    lines = {name: lines_of(tmp_path, name) for name in ("plain", "interpolated")}
    for line in lines["plain"]:
        assert 1 <= line["subspace/k"] <= 6
        assert len(line["subspace/eigenvalues"]) == 6
        assert line["projection/scale"] == 1
    for line in lines["interpolated"][1:]:
        # lambda_{k+1} is a tracked one, or the next, here to its certified bound.
        k, values = line["subspace/k"], line["subspace/eigenvalues"]
        upper = line["subspace/next_eigenvalue"] + line["subspace/next_residual"]
        largest = max(values[k], upper) if k < 6 else upper
        expected = 0.5 * 2 / (0.1 * 200 * largest)
        assert line["projection/scale"] == pytest.approx(expected, rel=1e-2)
        # The update lies in the bulk of the k in use.
        assert line["alignment/update"] < 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"projection.dom_end": 0.5}, r"dom_end = 0\.5 has no effect with ramp_steps"),
        ({"projection.ramp_steps": -1}, "ramp_steps must be at least 0, got -1"),
        (
            {"projection.ramp_steps": 5, "modes": ("bulk",), "projection.dom": 1.0}
            | {"projection.bulk": 1.0},
            "ramp_steps = 5 has no effect with modes without 'interpolated'",
        ),
        ({"projection.cap_bulk": -1.0}, "cap_bulk must be at least 0"),
        (
            {"projection.cap_bulk": 1.0, "optimizer.name": "adam"},
            "one of gd, heavy_ball, nesterov, sgd; got 'adam'",
        ),
        ({"projection.cap_bulk": 1.0, "optimizer.sam_rho": 0.1}, "without SAM"),
        ({"projection.cap_bulk": 1.0, "optimizer.schedule": "cosine"}, "'constant'"),
        ({"projection.cap_bulk": 1.0, "projection.acts_on": "gradient"}, "'update'"),
        ({"projection.cap_bulk": 1.0, "subspace.curvature": "random"}, "'random'"),
        ({"subspace.adaptive_k": True, "subspace.k": 1}, "subspace.k of 2 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    config = make_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        optimizers.check(config)
