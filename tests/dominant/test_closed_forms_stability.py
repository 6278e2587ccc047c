"""Momentum, edges of stability, SAM: projected steps on quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import zoo
from tests.dominant.quadratics import (
    EPS,
    RATE,
    STANDARD_ERRORS,
    N,
    Quadratic,
    assert_mean,
    exact_split,
    simulate,
    simulate_seeds,
)

# --- momentum ---

BETA = 0.9


def momentum_on(gradients, side):
    """Updates of projected heavy ball on prescribed gradients."""
    like, subspace = exact_split(jnp.float64)
    project = {"dom": dominant.dom_project, "bulk": dominant.bulk_project}[side]
    tx = optax.chain(optax.sgd(RATE, momentum=BETA), project())
    _, updates = simulate(
        tx,
        lambda _, g: g,
        like,
        subspace,
        zoo.from_rows(gradients, like),
        lambda _, updates: updates,
    )
    return zoo.to_rows(updates)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("side", ["dom", "bulk"])
def test_effective_rate_of_momentum_on_constant_and_alternating_gradients(side):
    """Rate / (1 - beta) = 10 rate, and rate / (1 + beta) = 0.526 rate."""
    steps = 400
    gradient = np.random.default_rng(0).standard_normal(8)
    signs = (-1.0) ** np.arange(steps)
    mine = np.arange(8) >= 5 if side == "dom" else np.arange(8) < 5
    forgotten = BETA**steps
    for pattern, factor in ((np.ones(steps), 1 - BETA), (signs, 1 + BETA)):
        updates = momentum_on(pattern[:, None] * gradient, side)
        expected = -RATE / factor * pattern[-1] * gradient * mine
        allowed = (100 * EPS + forgotten / factor) * np.max(np.abs(gradient))
        assert np.max(np.abs(updates[-1] - expected)) <= allowed


@pytest.mark.usefixtures("x64")
def test_stationary_momentum_under_dom():
    """Var u, and E <-step, g> / E g^2 = rate / (1 + beta) in every direction."""
    a = np.array([3.0, 1.0, 0.2])  # rate * lambda, below the edge 2 (1 + beta) = 3.8
    eigenvalues = np.concatenate([a / RATE, np.linspace(1, 0.1, N - 3)])
    problem = Quadratic(eigenvalues, 3)
    tx = optax.chain(optax.sgd(RATE, momentum=BETA), dominant.dom_project())
    start = problem.params(np.concatenate([np.zeros(3), np.ones(N - 3)]))
    _, u, step = simulate_seeds(
        tx, problem, start, problem.subspace(1e-13), steps=150, seeds=8192
    )
    u, step = u[:, :3], step[:, :3]
    variance = RATE**2 * (1 + BETA) / ((1 - BETA) * a * (2 * (1 + BETA) - a))
    assert_mean(u**2, variance)
    g = eigenvalues[:3] * u
    product = -step * g
    ratio = np.mean(product, axis=0) / np.mean(g**2, axis=0)
    spread = np.std(product - ratio * g**2, axis=0) / np.mean(g**2, axis=0)
    error = np.abs(ratio - RATE / (1 + BETA))
    assert np.all(error <= STANDARD_ERRORS * spread / np.sqrt(len(g)))


# --- the edges of stability ---


EDGES = {
    "gd": (lambda rate: optax.sgd(rate), lambda rate: 2 / rate),
    "heavy-ball": (
        lambda rate: optax.sgd(rate, momentum=BETA),
        lambda rate: 2 * (1 + BETA) / rate,
    ),
    "nesterov": (
        lambda rate: optax.sgd(rate, momentum=BETA, nesterov=True),
        lambda rate: 2 * (1 + BETA) / ((1 + 2 * BETA) * rate),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("optimizer", EDGES)
@pytest.mark.parametrize(("relative", "grows"), [(0.98, False), (1.02, True)])
def test_bulk_steps_need_only_the_bulk_below_the_edge(optimizer, relative, grows):
    """The dominant eigenvalues are ten times beyond the edge, and do not matter."""
    make, edge_of = EDGES[optimizer]
    rate = 0.1
    edge = edge_of(rate)
    eigenvalues = np.concatenate([[10 * edge] * 2, [relative * edge], np.ones(N - 3)])
    problem = Quadratic(eigenvalues, 2)

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    tx = optax.chain(make(rate), dominant.bulk_project())
    start = problem.params(np.concatenate([[0, 0, 1.0], np.zeros(N - 3)]))
    # An exact space: what leaks of an unstable direction would grow
    subspace = problem.subspace(1e-13)
    last, _ = jax.jit(
        lambda: simulate(tx, gradient, start, subspace, jnp.arange(1000))
    )()
    size = abs(float(problem.coordinates(last)[2]))
    assert size > 10 if grows else size < 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("dom", "bulk", "stable"),
    [
        (0.49, 1.9, True),  # dom * rate * lambda_1 = 1.96, bulk * rate * lambda_4 = 1.9
        (0.51, 1.9, False),
        (0.49, 2.1, False),
    ],
)
def test_interpolated_steps_are_stable_below_both_edges(dom, bulk, stable):
    rate = 0.1
    problem = Quadratic([40.0, 35.0, 30.0] + [10.0] * (N - 3), 3)

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    tx = optax.chain(optax.sgd(rate), dominant.interpolate_project(dom, bulk))
    start, subspace = problem.params(np.ones(N)), problem.subspace(1e-13)
    last, _ = jax.jit(
        lambda: simulate(tx, gradient, start, subspace, jnp.arange(300))
    )()
    size = float(jnp.linalg.norm(problem.coordinates(last)))
    assert size < 0.1 if stable else size > 100


@pytest.mark.usefixtures("x64")
def test_effective_rates_of_interpolated_descent_are_exact():
    """-<step, P g> / |P g|^2 is dom times the rate, and bulk times it outside."""
    problem = Quadratic(np.linspace(20, 1, N), 4)
    subspace, params = problem.subspace(1e-13), problem.params(np.ones(N))
    g = jax.grad(problem.loss_fn)(params, problem.data())
    tx = optax.chain(optax.sgd(RATE), dominant.interpolate_project(0.25, 3.0))
    step, _ = tx.update(g, tx.init(params), params, subspace=subspace)
    for part, weight in ((dominant.project, 0.25), (dominant.reject, 3.0)):
        inside = ravel_pytree(part(g, subspace))[0]
        effective = -jnp.vdot(ravel_pytree(step)[0], inside) / jnp.vdot(inside, inside)
        assert abs(float(effective) / (weight * RATE) - 1) <= 100 * EPS


# --- SAM ---


def sam_gradient(loss_gradient, radius):
    """The gradient at theta + radius g / |g|."""

    def gradient(params, _):
        g = loss_gradient(params)
        length = optax.tree.norm(g)
        ascent = jax.tree.map(lambda p, d: p + radius * d / length, params, g)
        return loss_gradient(ascent)

    return gradient


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("project", ["none", "dom"])
def test_sam_bounces_along_the_sharpest_direction(project):
    """|u_1| -> rate lambda_1 radius / (2 - rate lambda_1), and chi_1 -> 1."""
    rate, radius, top = 0.05, 0.1, 20.0
    # Well separated: the others die out, under Dom they are frozen at 0
    problem = Quadratic([top, *np.linspace(8, 1, N - 1)], 1)
    subspace = problem.subspace(1e-13)
    start = np.ones(N)
    tx = optax.sgd(rate)
    if project == "dom":
        tx = optax.chain(tx, dominant.dom_project())
        start[1:] = 0

    def loss_gradient(params):
        return jax.grad(problem.loss_fn)(params, problem.data())

    def measure(params, _):
        chi = dominant.alignment(loss_gradient(params), subspace)
        return problem.coordinates(params), chi

    _, (u, chi) = jax.jit(
        lambda: simulate(
            tx,
            sam_gradient(loss_gradient, radius),
            problem.params(start),
            subspace,
            jnp.arange(3000),
            measure,
        )
    )()
    u, chi = np.asarray(u), np.asarray(chi)
    bounce = rate * top * radius / (2 - rate * top)
    assert np.max(np.abs(np.abs(u[-2:, 0]) - bounce)) <= 1e-9
    assert u[-1, 0] * u[-2, 0] < 0
    assert np.max(np.abs(u[-1, 1:])) <= 1e-9
    assert abs(chi[-1] - 1) <= 1e-9
