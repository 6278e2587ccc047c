"""Base optimizers and SAM against explicit formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import defaults
from experiments import optimizers
from experiments.optimizers.base import OPTIMIZERS

NUM_STEPS = 10
RNG = np.random.default_rng(0)
PARAMS = {"b": RNG.normal(size=2), "w": RNG.normal(size=(3, 2))}
GRADIENTS = {"b": RNG.normal(size=(3, 2)), "w": RNG.normal(size=(3, 3, 2))}


def settings(**fields):
    config = defaults.get_config().optimizer
    config.learning_rate = 0.3
    config.update(fields)
    return config


def as_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def rows(tree):
    """Concatenate leaves [T, ...] to [T, n] in float64, b before w."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def updates_of(config, params, gradients):
    """The optimizer's updates for a sequence of gradients; the params follow them."""
    tx = optimizers.base_optimizer(config, NUM_STEPS)

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), updates

    @jax.jit
    def run(params, gradients):
        return jax.lax.scan(step, (params, tx.init(params)), gradients)[1]

    return run(as_float32(params), as_float32(gradients))


# --- three updates --------------------------------------------------------------------


def reference(config, theta, gradients):
    """The same in float64, from the definitions; yields updates [n]."""
    eta, beta, eps = config.learning_rate, config.momentum, config.eps
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        if config.clip_norm:
            g = g * min(1.0, config.clip_norm / np.linalg.norm(g))
        if config.weight_decay and config.name != "adamw":
            g = g + config.weight_decay * theta
        match config.name:
            case "sgd" | "gd":
                u = -eta * g
            case "heavy_ball":
                m = beta * m + g
                u = -eta * m
            case "nesterov":
                m = beta * m + g
                u = -eta * (g + beta * m)
            case "adam" | "adamw":
                m = config.b1 * m + (1 - config.b1) * g
                v = config.b2 * v + (1 - config.b2) * g**2
                m_hat, v_hat = m / (1 - config.b1**t), v / (1 - config.b2**t)
                u = -eta * m_hat / (np.sqrt(v_hat) + eps)
                if config.name == "adamw":
                    u = u - eta * config.weight_decay * theta
            case "rmsprop":
                v = config.rmsprop_decay * v + (1 - config.rmsprop_decay) * g**2
                u = -eta * g / (np.sqrt(v) + eps)
        yield u
        theta = theta + u


# Smaller than two of the gradients, larger than the third.
CLIP = np.median(np.linalg.norm(rows(GRADIENTS), axis=1)) - 0.1
CASES = [
    {"name": "sgd"},
    {"name": "sgd", "clip_norm": CLIP},
    {"name": "gd", "weight_decay": 0.2},
    {"name": "heavy_ball", "momentum": 0.9},
    {"name": "heavy_ball", "momentum": 0.5, "weight_decay": 0.2, "clip_norm": CLIP},
    {"name": "nesterov", "momentum": 0.9},
    {"name": "adam"},
    {"name": "adam", "b1": 0.8, "b2": 0.9, "eps": 0.1, "weight_decay": 0.2},
    {"name": "adamw", "weight_decay": 0.2},
    {"name": "rmsprop"},
    {"name": "rmsprop", "rmsprop_decay": 0.8, "eps": 0.1},
]


def test_gradients_that_are_not_finite_are_left_out():
    config = settings(name="adam", clip_norm=1.0)
    bad = jax.tree.map(lambda g: g.at[1].set(jnp.inf), as_float32(GRADIENTS))
    kept = jax.tree.map(lambda g: g[::2], as_float32(GRADIENTS))
    expected = updates_of(config, as_float32(PARAMS), kept)
    config.skip_not_finite = True
    found = updates_of(config, as_float32(PARAMS), bad)
    np.testing.assert_array_equal(rows(found)[1], 0)
    np.testing.assert_allclose(rows(found)[::2], rows(expected), rtol=1e-6)


@pytest.mark.parametrize("fields", CASES, ids=lambda fields: "-".join(map(str, fields)))
def test_the_first_three_updates(fields):
    config = settings(**fields)
    updates = updates_of(config, PARAMS, GRADIENTS)
    start = rows(jax.tree.map(lambda leaf: leaf[None], PARAMS))[0]
    expected = list(reference(config, start, rows(GRADIENTS)))
    np.testing.assert_allclose(rows(updates), expected, rtol=2e-5, atol=1e-6)


def test_each_optimizer_has_its_formula_tested():
    assert {fields["name"] for fields in CASES} | {"muon"} == set(OPTIMIZERS)


def test_muon_orthogonalizes_matrices_and_leaves_the_rest_to_adam():
    rng = np.random.default_rng(1)
    shapes = {"bias": (4,), "kernel": (2, 2, 3, 4), "tall": (6, 3), "wide": (3, 6)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    gradients = {name: rng.normal(size=(2, *shape)) for name, shape in shapes.items()}
    config = settings(name="muon", momentum=0.8, b1=0.7, b2=0.9, weight_decay=0.2)
    updates = updates_of(config, params, gradients)
    eta = 0.3
    for name in shapes:
        beta = 0.7 if name == "bias" else 0.8
        theta, m, v = params[name], 0.0, 0.0
        for t, (g, u) in enumerate(
            zip(gradients[name], np.asarray(updates[name], np.float64), strict=True), 1
        ):
            m, v = beta * m + (1 - beta) * g, 0.9 * v + 0.1 * g**2
            # Nesterov's look-ahead, each part with its own bias correction.
            ahead = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
            undecayed = u + eta * 0.2 * theta
            theta = theta + u
            if name == "bias":
                expected = -eta * ahead / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
                np.testing.assert_allclose(undecayed, expected, rtol=1e-4)
                continue
            columns = g.shape[-1]
            left, _, right = np.linalg.svd(
                ahead.reshape(-1, columns), full_matrices=False
            )
            scale = np.sqrt(max(1, columns / (g.size // columns)))
            singular = left.T @ (-undecayed.reshape(-1, columns) / eta / scale)
            singular = singular @ right.T
            np.testing.assert_allclose(
                singular, np.diag(np.diagonal(singular)), atol=1e-3
            )
            assert np.all(np.abs(np.diagonal(singular) - 1) < 0.5)


def test_only_gd_takes_the_full_batch():
    assert [n for n in OPTIMIZERS if optimizers.is_full_batch(settings(name=n))] == [
        "gd"
    ]


# --- SAM ------------------------------------------------------------------------------


def test_sam_takes_the_gradient_of_the_ascended_params():
    matrix = np.diag([5.0, 1.0, 0.2, 0.1, 3.0, 1.0, 1.0, 2.0])
    config = settings(name="heavy_ball", momentum=0.9, sam_rho=0.7, clip_norm=2.0)
    config.weight_decay = 0.1
    tx = optimizers.base_optimizer(config, NUM_STEPS)

    def gradient(theta, matrix):
        return matrix @ theta + theta**3

    @jax.jit
    def run(theta, matrix):
        def step(carry, _):
            theta, state = carry
            updates, state = tx.update(
                gradient(theta, matrix),
                state,
                theta,
                grad_fn=lambda theta, _: gradient(theta, matrix),
                subspace=None,  # as other extra arguments, not SAM's business
            )
            return (theta + updates, state), theta

        return jax.lax.scan(step, (theta, tx.init(theta)), length=4)[1]

    theta = np.linspace(-1, 1, 8)
    path = run(jnp.asarray(theta, jnp.float32), jnp.asarray(matrix, jnp.float32))
    m = np.zeros(8)
    for got in np.asarray(path, np.float64):
        np.testing.assert_allclose(got, theta, rtol=2e-5, atol=1e-6)
        g = gradient(theta, matrix)
        g = gradient(theta + 0.7 * g / np.linalg.norm(g), matrix)
        g = g * min(1.0, 2.0 / np.linalg.norm(g)) + 0.1 * theta
        m = 0.9 * m + g
        theta = theta - 0.3 * m


def test_sam_stays_finite_where_the_gradient_is_zero():
    tx = optimizers.base_optimizer(settings(sam_rho=0.05), NUM_STEPS)
    zero = jnp.zeros(3)
    updates, _ = tx.update(zero, tx.init(zero), zero, grad_fn=lambda theta, _: theta)
    np.testing.assert_array_equal(updates, 0)
