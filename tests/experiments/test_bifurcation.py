"""Gradient descent on one example: exact recursions, curvature, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.trajectory_alignment import product
from experiments import bifurcation, records
from experiments.bifurcation import LOSSES


def settings(**fields):
    config = product.get_config()
    with config.unlocked():
        config.points = ()
        config.update(fields)
    return config


def slopes(loss, p):
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(jax.grad(LOSSES[loss].function))(jnp.asarray(p)))


@pytest.mark.parametrize("loss", ["log_cosh", "sqrt"])
@pytest.mark.parametrize("width", [1, 2, 7])
def test_two_layers_follow_the_exact_recursion(loss, width):
    config = settings(
        width=width,
        learning_rates=(0.05, 0.2),
        residuals=(0.02, 0.7),
        sharpnesses=(0.7, 1.5),
        steps=200,
    )
    found = bifurcation.paths(config, loss)
    p, q, eta = (found[f"path/{name}"] for name in ("p", "q", "learning_rate"))
    slope = slopes(loss, p.ravel()).reshape(p.shape)
    p, q, eta, slope, after_p, after_q = (
        *(values[:-1] for values in (p, q, eta, slope)),
        p[1:],
        q[1:],
    )
    small = (eta * slope) ** 2
    expected = p * (1 - 2 * LOSSES[loss].ratio(p) / q + small)
    np.testing.assert_allclose(after_p, expected, atol=1e-13)
    expected = q / (1 + small - 2 * eta**2 * q * slope * p)
    np.testing.assert_allclose(after_q, expected, rtol=1e-13)


def test_the_neuron_follows_the_exact_recursion():
    config = settings(
        model="tanh_neuron",
        learning_rates=(0.02, 0.1),
        residuals=(0.05, 0.5),
        sharpnesses=(0.8, 1 / 0.8),
        steps=200,
    )
    found = bifurcation.paths(config, "log_cosh")
    p, q, eta = (found[f"path/{name}"] for name in ("p", "q", "learning_rate"))
    r = bifurcation.ratio_of_neuron(p)
    np.testing.assert_allclose(p[1:], ((1 - 2 * r / q) * p)[:-1], atol=1e-14)
    expected = q * (1 - eta * np.tanh(p) ** 2) ** -2
    np.testing.assert_allclose(q[1:], expected[:-1], rtol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("p", [1.3, 0.0, -0.4])
def test_sharpness_is_the_dense_hessians(loss, width, p):
    config = settings(width=width, residuals=(p,), sharpnesses=(0.9,), steps=1)
    assert_dense(config, loss, p)


@pytest.mark.parametrize("loss", LOSSES)
def test_at_the_minimum_the_sharpness_is_that_of_the_edge(loss):
    """At p = 0 it is S = 2 / (eta q), as the loss' second derivative there is 1."""
    config = settings(residuals=(0.0,), sharpnesses=(0.9,), steps=1)
    found = bifurcation.paths(config, loss)
    eta, q = (found[f"path/{name}"][0, 0] for name in ("learning_rate", "q"))
    np.testing.assert_allclose(found["path/sharpness"][0, 0], 2 / (eta * q), rtol=1e-12)


def test_the_neurons_sharpness_is_the_dense_hessians():
    config = settings(
        model="tanh_neuron", residuals=(0.7,), sharpnesses=(0.9,), steps=1
    )
    assert_dense(config, "half_squared_error", 0.7)


def assert_dense(config, loss, p):
    found = bifurcation.paths(config, loss)
    with jax.enable_x64(True):
        model = bifurcation.model_of(config, loss)
        ((eta, at),) = bifurcation.starts_of(config)
        params = jax.tree.map(jnp.asarray, model.start(config, eta, at))
        params = {name: jnp.asarray(leaf) for name, leaf in params.items()}
        flat, unflatten = jax.flatten_util.ravel_pytree(params)
        hessian = jax.hessian(lambda x: model.loss(unflatten(x)))(flat)
        expected = np.linalg.eigvalsh(np.asarray(hessian))[-1]
    np.testing.assert_allclose(found["path/sharpness"][0, 0], expected, rtol=1e-10)
    np.testing.assert_allclose(found["path/p"][0, 0], p, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found["path/q"][0, 0], 1 / 0.9, rtol=1e-12)


def test_ratios_are_those_of_the_losses():
    z = np.array([-2.0, -1e-3, 0.0, 0.4, 3.0])
    for name, loss in LOSSES.items():
        expected = slopes(name, z) / np.where(z == 0, 1, z)
        expected[z == 0] = 1
        np.testing.assert_allclose(loss.ratio(z), expected, rtol=1e-9)
        near = 1e-3
        np.testing.assert_allclose(
            (1 - loss.ratio(np.array(near))) / near**2, loss.c, rtol=1e-3, atol=1e-6
        )
    near = np.array(1e-3)
    c = (1 - bifurcation.ratio_of_neuron(near)) / near**2
    np.testing.assert_allclose(c, bifurcation.NEURON_C, rtol=1e-3)


def test_the_opening_toy_ends_where_it_should():
    found = bifurcation.paths(product.get_config(), "log_cosh")
    eta = 2 / 16
    assert found["path/p"].shape == (1001, 20)
    # Some begin so near the edge that the first steps take them below it.
    beyond = found["path/q"][10] < 1
    assert beyond.sum() == 15
    ends = found["path/sharpness"][-1]
    np.testing.assert_allclose(ends[beyond], 2 / eta - 1.5 * eta, atol=0.01)
    assert (ends[~beyond] < 2 / eta - 2 * eta).all()
    p, q = (found[f"path/{name}"][100, beyond] for name in ("p", "q"))
    np.testing.assert_allclose(q / LOSSES["log_cosh"].ratio(p), 1, atol=0.02)


def test_points_are_where_the_paths_begin():
    config = settings(points=((0.3, 4.0), (-0.5, 5.0)), steps=1)
    starts = [
        bifurcation.model_of(config, "sqrt").start(config, eta, at)
        for eta, at in bifurcation.starts_of(config)
    ]
    found = [[start["U"][0, 0], start["v"][0]] for start in starts]
    np.testing.assert_allclose(found, [[0.3, 4.0], [-0.5, 5.0]], rtol=1e-12)


def test_a_run_writes_a_branch_a_loss(tmp_path):
    config = settings(losses=("log_cosh", "sqrt"), steps=30, log_first=5, log_every=10)
    status = bifurcation.run(config, tmp_path)
    assert status["status"] == "finished"
    lines = records.read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5, 10, 20, 30] * 2
    assert {line["branch"] for line in lines} == {"log_cosh", "sqrt"}
    assert len(lines[0]["path/p"]) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "linear"}, "unknown model 'linear'"),
        ({"losses": ("hinge",)}, "unknown loss 'hinge'"),
        ({"learning_rates": (0.0,)}, "must be positive"),
        ({"residuals": (-50.0,)}, "needs a sharpness of at least 6.25"),
        ({"sharpnesses": (0.0,)}, "sharpnesses must be positive"),
        ({"model": "tanh_neuron", "losses": ("sqrt",)}, "a tanh_neuron has losses"),
        (
            {
                "model": "tanh_neuron",
                "losses": ("half_squared_error",),
                "width": 2,
            },
            "a tanh_neuron has width = 1",
        ),
        ({"steps": 0}, "steps must be at least 1"),
        ({"points": ((0.1, 4.0),), "width": 2}, "width = 1"),
    ],
)
def test_what_cannot_be_run(fields, message):
    with pytest.raises(ValueError, match=message):
        bifurcation.check(settings(**fields))
