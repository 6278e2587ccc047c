"""SGD on quadratics: noise, alignment, and what each projection freezes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant import zoo
from tests.dominant.quadratics import (
    EPS,
    FLAT,
    RATE,
    SHARP,
    STANDARD_ERRORS,
    TWO_LEVELS,
    K,
    N,
    Quadratic,
    assert_mean,
    assert_ratio_of_means,
    exact_split,
    simulate,
    simulate_seeds,
)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_variance_of_dom_sgd_grows_as_the_geometric_sum(steps):
    problem = Quadratic(TWO_LEVELS, K)
    start = np.concatenate([np.zeros(K), np.linspace(-1, 1, N - K)])
    tx = optax.chain(optax.sgd(RATE), dominant.dom_project())
    subspace = problem.subspace(1e-13)
    u, _, _ = simulate_seeds(
        tx, problem, problem.params(start), subspace, steps=steps, seeds=4096
    )
    contraction = (1 - RATE * SHARP) ** 2
    expected = RATE**2 * (1 - contraction**steps) / (1 - contraction)
    assert_mean(np.square(u[:, :K]).ravel(), expected)
    # ... and the bulk does not move
    assert np.max(np.abs(u[:, K:] - start[K:])) <= 1e-11


@pytest.mark.usefixtures("x64")
def test_variance_of_bulk_sgd_is_the_stationary_one():
    problem = Quadratic(TWO_LEVELS, K)
    start = np.concatenate([np.ones(K), np.zeros(N - K)])
    tx = optax.chain(optax.sgd(RATE), dominant.bulk_project())
    steps = 150
    u, _, _ = simulate_seeds(
        tx,
        problem,
        problem.params(start),
        problem.subspace(1e-13),
        steps=steps,
        seeds=512,
    )
    slow = 1 - (1 - RATE * FLAT) ** (2 * steps)
    assert_mean(np.square(u[:, K:]).ravel(), slow * RATE / (2 * FLAT - RATE * FLAT**2))
    assert np.max(np.abs(u[:, :K] - start[:K])) <= 1e-11


@functools.cache
def stationary_gradients():
    """Alignments and dominant energies of the gradient of stationary SGD."""
    problem = Quadratic(TWO_LEVELS, K, np.float32)
    subspace = problem.subspace(1e-6)
    start = problem.params(np.zeros(N))
    u, _, _ = simulate_seeds(
        optax.sgd(RATE), problem, start, subspace, steps=300, seeds=2048
    )

    def measure(coordinates):
        params = zoo.unflatten(coordinates @ problem.rows.astype("f"), problem.like)
        g = jax.grad(problem.loss_fn)(params, problem.data())
        inside = zoo.flatten(dominant.project(g, subspace))
        total = zoo.flatten(g)
        return (
            dominant.alignment(g, subspace),
            jnp.vdot(inside, inside),
            jnp.vdot(total, total),
        )

    chi, inside, total = (np.asarray(x) for x in jax.jit(jax.vmap(measure))(u))
    return chi, inside, total


def test_noise_alone_aligns_the_gradient():
    _, inside, total = stationary_gradients()
    a = K * SHARP / (2 - RATE * SHARP)
    b = (N - K) * FLAT / (2 - RATE * FLAT)
    assert_ratio_of_means(inside, total, a / (a + b))


def test_mean_alignment_is_not_the_root_of_the_energy():
    """Mean chi .960 (published to three digits), while the root of .963 is .982."""
    chi, inside, total = stationary_gradients()
    standard_error = np.std(chi) / np.sqrt(len(chi))
    assert abs(np.mean(chi) - 0.960) <= 0.0005 + STANDARD_ERRORS * standard_error
    root = np.sqrt(np.mean(inside) / np.mean(total))
    assert np.mean(chi) < root - STANDARD_ERRORS * standard_error


@pytest.mark.usefixtures("x64")
def test_dom_freezes_the_bulk_and_reaches_its_noise_floor():
    """E L -> y_0 M y_0 / 2 + sum_i rate sigma_i^2 / (2 - rate lambda_i) / 2."""
    _, subspace = exact_split(jnp.float64)
    sharp, sigma = np.array([30.0, 20.0, 10.0]), np.array([1.0, 2.0, 3.0])
    flat = np.abs(zoo.with_spectrum(np.linspace(1, 0.1, 5), seed=1)) + np.eye(5)
    rate, y0 = 0.04, np.linspace(0.1, 0.5, 5)

    def loss_fn(params):
        x, y = params["sharp"], params["flat"]
        return jnp.vdot(x, sharp * x) / 2 + jnp.vdot(y, flat @ y) / 2

    def gradient(params, key):
        g = jax.grad(loss_fn)(params)
        return {**g, "sharp": g["sharp"] + sigma * jax.random.normal(key, (3,))}

    tx = optax.chain(optax.sgd(rate), dominant.dom_project())
    start = {"sharp": jnp.zeros(3), "flat": jnp.asarray(y0)}

    def run(key):
        keys = jax.random.split(key, 40)
        last, _ = simulate(tx, gradient, start, subspace, keys)
        return loss_fn(last), last["flat"]

    loss, y = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4096))
    np.testing.assert_array_equal(y, np.broadcast_to(y0, y.shape))  # bit for bit
    frozen = y0 @ flat @ y0 / 2
    floor = np.sum(rate * sigma**2 / (2 - rate * sharp)) / 2
    assert_mean(np.asarray(loss) - frozen, floor)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_projections_with_an_exact_basis_freeze_bit_for_bit(precision, unoptimized):
    with jax.enable_x64(precision == "float64"):
        like, subspace = exact_split(jnp.dtype(precision))
        start = zoo.to_tree(np.random.default_rng(0).standard_normal(8), like)
        steps = np.random.default_rng(1).standard_normal((50, 8))
        for side, frozen in (("dom", "flat"), ("bulk", "sharp")):
            project = {"dom": dominant.dom_project, "bulk": dominant.bulk_project}
            tx = optax.chain(optax.sgd(0.3, momentum=0.9), project[side]())
            last, _ = simulate(
                tx, lambda _, g: g, start, subspace, zoo.from_rows(steps, like)
            )
            np.testing.assert_array_equal(last[frozen], start[frozen])
            moved = {"flat": "sharp", "sharp": "flat"}[frozen]
            assert np.all(np.asarray(last[moved]) != np.asarray(start[moved]))


@pytest.mark.usefixtures("x64")
def test_gradient_descent_loses_alignment_geometrically():
    """tan(angle to the bulk) shrinks by (1 - rate lambda) / (1 - rate mu) a step."""
    problem = Quadratic(TWO_LEVELS, K)
    subspace = problem.subspace(1e-13)
    start, rate = problem.params(np.ones(N)), 0.02

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    def measure(params, _):
        return dominant.alignment(gradient(params, None), subspace)

    _, chi = jax.jit(
        lambda: simulate(
            optax.sgd(rate), gradient, start, subspace, jnp.arange(25), measure
        )
    )()
    chi = np.asarray(chi)
    tangents = chi / np.sqrt(1 - chi**2)
    factor = (1 - rate * SHARP) / (1 - rate * FLAT)
    expected = tangents[0] * factor ** np.arange(25)
    # chi close to 1 determines its tangent with a relative error eps tan^2
    allowed = 100 * EPS * (1 + tangents**2) + 1e-12 / expected
    assert np.all(np.abs(tangents / expected - 1) <= allowed)
    assert chi[-1] < 1e-3
