"""The toy of two coordinates, a sharp one and a flat one, against its recursion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.quadratics import (
    STANDARD_ERRORS,
    assert_mean,
    assert_ratio_of_means,
    simulate,
)


def toy_loss_fn(params, data):
    """Half of 1000 x^2 + y^2, plus or minus 100 x y: the sign is the example."""
    x, y = params["x"], params["y"]
    return jnp.mean((1000 * x**2 + y**2) / 2 + 100 * data["sign"] * x * y)


def toy(dtype):
    """Both signs: the data set whose mean loss is the base quadratic."""
    return {"sign": jnp.asarray([1, -1], dtype)}


def toy_subspace(dtype):
    """The sharp axis, by the library."""
    params = {"x": jnp.ones((), dtype), "y": jnp.ones((), dtype)}

    @jax.jit
    def solve(params, data):
        matvec = dominant.hessian(toy_loss_fn)(params, data)
        return dominant.top_eigenspace(matvec, params, 1, tol=1e-6)

    return solve(params, toy(dtype))


def exact_toy_subspace(dtype):
    like = {"x": jnp.zeros((), dtype), "y": jnp.zeros((), dtype)}
    return zoo.subspace(np.array([[1.0, 0.0]]), like)


def simulate_toy(tx, start, subspace, *, steps, seeds, measure=lambda *_: ()):
    dtype = jnp.asarray(0.0).dtype
    start = {name: jnp.asarray(value, dtype) for name, value in start.items()}

    def gradient(params, key):
        data = {"sign": jax.random.rademacher(key, (1,), dtype)}
        return jax.grad(toy_loss_fn)(params, data)

    def run(key, start, subspace):
        keys = jax.random.split(key, steps)
        return simulate(tx, gradient, start, subspace, keys, measure)

    keys = jax.random.split(jax.random.key(3), seeds)
    return jax.jit(jax.vmap(run, in_axes=(0, None, None)))(keys, start, subspace)


STEPS = 60


@functools.cache
def after_sgd(rate):
    """Both coordinates, [seeds], after `STEPS` steps from (0, 1)."""
    last, _ = simulate_toy(
        optax.sgd(rate),
        {"x": 0.0, "y": 1.0},
        exact_toy_subspace(jnp.float32),
        steps=STEPS,
        seeds=8192,
    )
    return tuple(np.asarray(last[name], np.float64) for name in "xy")


@pytest.mark.parametrize("rate", [1e-4, 5e-4, 1e-3])
def test_toy_follows_the_recursion_of_second_moments(rate):
    a, b, c = 1 - 1000 * rate, 1 - rate, 1e4 * rate**2
    moments = np.linalg.matrix_power([[a**2, c], [c, b**2]], STEPS) @ [0.0, 1.0]
    x, y = after_sgd(rate)
    assert_mean(np.stack([x**2, y**2], axis=1), moments)
    # E xy = 0 from this start
    standard_error = np.std(x * y) / np.sqrt(len(x))
    assert abs(np.mean(x * y)) <= STANDARD_ERRORS * standard_error
    assert_ratio_of_means(x**2, y**2, moments[0] / moments[1])


def test_toy_second_moments_are_quasi_stationary():
    """The ratio of the recursion's top eigenvector is 10 rate / (2 - 1000 rate)."""
    rate = 5e-4
    a, b, c = 1 - 1000 * rate, 1 - rate, 1e4 * rate**2
    _, vectors = np.linalg.eigh([[a**2, c], [c, b**2]])
    ratio = vectors[0, -1] / vectors[1, -1]
    assert abs(ratio / (10 * rate / (2 - 1000 * rate)) - 1) <= 10 * rate
    assert_ratio_of_means(*np.square(after_sgd(rate)), ratio)


@pytest.mark.parametrize(
    ("rate", "chi"), [(1e-4, 0.967), (5e-4, 0.993), (1e-3, 0.99995)]
)
def test_toy_alignment_along_the_path(rate, chi):
    subspace = toy_subspace(jnp.float32)

    def measure(params, _):
        g = jax.grad(toy_loss_fn)(params, toy(jnp.float32))
        return dominant.alignment(g, subspace)

    _, path = simulate_toy(
        optax.sgd(rate),
        {"x": 0.0, "y": 1.0},
        subspace,
        steps=300,
        seeds=512,
        measure=measure,
    )
    means = np.mean(np.asarray(path)[:, 100:], axis=1)  # past the transient
    standard_error = np.std(means) / np.sqrt(len(means))
    digits = 0.5 * 10.0 ** -len(str(chi)[2:])  # the printed value's own rounding
    assert abs(np.mean(means) - chi) <= digits + STANDARD_ERRORS * standard_error


def test_toy_dom_does_not_reach_the_loss_of_the_frozen_flat_part():
    """E L -> y_0^2 / 2 (1 + 10^4 rate / (2 - 1000 rate)) = 2.1667, not 1/2."""
    rate = 5e-4
    last, _ = simulate_toy(
        optax.chain(optax.sgd(rate), dominant.dom_project()),
        {"x": 0.0, "y": 1.0},
        exact_toy_subspace(jnp.float32),
        steps=60,
        seeds=8192,
    )
    np.testing.assert_array_equal(last["y"], np.ones(8192))
    x = np.asarray(last["x"], np.float64)
    assert_mean((1000 * x**2 + 1) / 2, (1 + 1e4 * rate / (2 - 1000 * rate)) / 2)


@pytest.mark.usefixtures("x64")
def test_toy_bulk_is_deterministic_from_the_valley_floor():
    """From x_0 = 0: y_t = (1 - rate)^t, whatever the noise."""
    rate, steps = 5e-4, 4000

    def measure(params, _):
        return params["y"]

    last, path = simulate_toy(
        optax.chain(optax.sgd(rate), dominant.bulk_project()),
        {"x": 0.0, "y": 1.0},
        toy_subspace(jnp.float64),
        steps=steps,
        seeds=2,
        measure=measure,
    )
    expected = (1 - rate) ** np.arange(steps)
    assert np.max(np.abs(np.asarray(path) / expected - 1)) <= 1e-10
    assert np.max(np.abs(np.asarray(last["x"]))) <= 1e-10


def test_toy_bulk_from_a_noisy_point_has_a_floor(unoptimized):
    """E y_t = (1 - rate)^t y_0, and Var y tends to 10^4 rate x_0^2 / (2 - rate)."""
    rate, steps, x0, y0 = 5e-2, 20, 0.03, 2.0
    last, _ = simulate_toy(
        optax.chain(optax.sgd(rate), dominant.bulk_project()),
        {"x": x0, "y": y0},
        exact_toy_subspace(jnp.float32),
        steps=steps,
        seeds=8192,
    )
    np.testing.assert_array_equal(last["x"], np.full(8192, x0, np.float32))
    y = np.asarray(last["y"], np.float64)
    mean = (1 - rate) ** steps * y0
    assert_mean(y, mean)
    saturation = 1 - (1 - rate) ** (2 * steps)
    assert_mean((y - mean) ** 2, saturation * 1e4 * rate * x0**2 / (2 - rate))
