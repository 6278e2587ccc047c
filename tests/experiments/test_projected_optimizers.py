"""Base optimizers with a projection and a switch, on a given subspace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments import optimizers
from experiments.optimizers.base import OPTIMIZERS
from tests.experiments.branches import MODES, NUM_PARAMETERS, K, flat, make_config, tree

RNG = np.random.default_rng(0)
BASIS = np.linalg.qr(RNG.normal(size=(NUM_PARAMETERS, K)))[0]
INSIDE = BASIS @ BASIS.T  # [15, 15], the projector


def given_subspace():
    return dominant.Subspace(
        eigenvalues=jnp.arange(K, 0.0, -1),
        basis=tree(BASIS.T),
        residuals=jnp.full(K, jnp.inf),
        next_eigenvalue=jnp.zeros(()),
        next_residual=jnp.full((), jnp.inf),
        num_matvecs=jnp.zeros((), jnp.int32),
    )


# --- every optimizer in every mode ----------------------------------------------------

OPTIONS = {
    "adam": {},
    "adamw": {"weight_decay": 0.1},
    "gd": {"clip_norm": 1.0, "weight_decay": 0.1},
    "heavy_ball": {"momentum": 0.9},
    "muon": {"momentum": 0.95, "weight_decay": 0.1},
    "nesterov": {"momentum": 0.9, "schedule": "cosine"},
    "rmsprop": {},
    "sgd": {},
}
PARAMS = RNG.normal(size=NUM_PARAMETERS)
GRADIENTS = RNG.normal(size=(2, NUM_PARAMETERS))


def test_every_optimizer_is_combined():
    assert set(OPTIONS) == set(OPTIMIZERS)


def updates_of(tx, gradients, params, **extra):
    """Scan a transformation over gradients, at the same params; traceable."""

    def step(state, gradient):
        updates, state = tx.update(
            gradient,
            state,
            params,
            gradient=gradient,
            # Of some other function, for SAM.
            grad_fn=lambda params, _: jax.tree.map(
                lambda g, p: g + p**2, gradient, params
            ),
            **extra,
        )
        return state, updates

    return jax.lax.scan(step, tx.init(params), gradients)[1]


def branches_of(config):
    """Updates [4 modes, 2, 15] of one program, whose weights are traced."""
    weights = [optimizers.projection_weights(config, mode) for mode in MODES]

    @jax.jit
    def run(weights, gradients, params, subspace):
        def member(dom, bulk):
            tx = optimizers.projected_optimizer(config, dom, bulk)
            return updates_of(tx, gradients, params, subspace=subspace)

        return jax.vmap(member)(*weights)

    weights = jnp.asarray(weights, jnp.float32).T
    return flat(run(weights, tree(GRADIENTS), tree(PARAMS), given_subspace()))


def base_updates(config, gradients):
    """Updates [members, 2, 15] of the base optimizer alone."""
    tx = optimizers.base_optimizer(config.optimizer, config.steps)
    run = jax.jit(jax.vmap(lambda gradients: updates_of(tx, gradients, tree(PARAMS))))
    return flat(run(tree(gradients)))


# SAM wraps all of them in the same way.
@pytest.mark.parametrize(
    ("name", "sam_rho"), [*((name, 0.0) for name in OPTIONS), ("heavy_ball", 0.5)]
)
def test_update_projections_are_parts_of_the_plain_update(name, sam_rho):
    config = make_config(name=name, sam_rho=sam_rho, **OPTIONS[name])
    plain, dom, bulk, interpolated = branches_of(config)
    inside = plain @ INSIDE
    scale = 1e-6 * np.abs(plain).max()
    expected = base_updates(config, GRADIENTS[None])[0]
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=2 * scale)
    np.testing.assert_allclose(dom, inside, atol=2 * scale)
    np.testing.assert_allclose(bulk @ INSIDE, 0, atol=2 * scale)
    np.testing.assert_allclose(bulk, plain - inside, atol=2 * scale)
    expected = 0.3 * inside + 0.7 * (plain - inside)
    np.testing.assert_allclose(interpolated, expected, atol=2 * scale)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradient_projections_come_before_the_optimizer(name):
    config = make_config(name=name, **OPTIONS[name])
    config.projection.acts_on = "gradient"
    got = branches_of(config)
    inside = GRADIENTS @ INSIDE
    rest = GRADIENTS - inside
    projected = np.stack([GRADIENTS, inside, rest, 0.3 * inside + 0.7 * rest])
    expected = base_updates(config, projected)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5 * abs(got).max())
    # Where the optimizer is not linear in the gradient, that is another algorithm.
    if name in ("adam", "adamw", "rmsprop", "muon"):
        outside = got[1] - got[1] @ INSIDE
        assert np.linalg.norm(outside) > 0.1 * np.linalg.norm(got[1])


# --- the switch -----------------------------------------------------------------------


def engaged_at(config, gradient, full_gradient):
    """The updates [T, 15] of Dom-SGD, and whether the switch had come, [T]."""
    tx = optimizers.projected_optimizer(config, 1.0, 0.0)

    @jax.jit
    def run(gradient, full_gradient, subspace):
        def step(state, _):
            updates, state = tx.update(
                gradient, state, gradient, subspace=subspace, gradient=full_gradient
            )
            return state, (updates, state[-1].engaged)

        return jax.lax.scan(step, tx.init(gradient), length=6)[1]

    updates, engaged = run(tree(gradient), tree(full_gradient), given_subspace())
    return flat(updates), np.asarray(engaged)


def test_a_fixed_switch_comes_at_its_step_whatever_the_alignment():
    config = make_config(learning_rate=1.0)
    config.switch.step = 4
    orthogonal = GRADIENTS[0] - GRADIENTS[0] @ INSIDE
    # chi_k is zero, and not merely small.
    updates, engaged = engaged_at(config, orthogonal, np.zeros(NUM_PARAMETERS))
    # Updates are numbered from 1, as by the rule: the state after 4 is the switch's.
    assert list(engaged) == [False, False, False, True, True, True]
    np.testing.assert_allclose(updates[:3], -np.tile(orthogonal, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(updates[3:], 0, atol=1e-6)


def test_without_a_step_the_rule_decides():
    config = make_config()
    config.switch.step = 0
    config.switch.threshold, config.switch.decay = 0.7, 0.5
    # The average is 1/2, 3/4, 7/8, ...
    aligned = BASIS[:, 0]
    assert list(engaged_at(config, PARAMS, aligned)[1]) == [False] + 5 * [True]
    config.switch.min_steps = 3
    assert list(engaged_at(config, PARAMS, aligned)[1]) == 2 * [False] + 4 * [True]
    orthogonal = PARAMS - PARAMS @ INSIDE
    assert not np.any(engaged_at(config, PARAMS, orthogonal)[1])
