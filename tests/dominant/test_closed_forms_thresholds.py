"""When one step aligns the gradient, and when it helps or hurts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dominant
from tests.dominant.quadratics import (
    EPS,
    FLAT,
    RATE,
    SHARP,
    TWO_LEVELS,
    K,
    N,
    Quadratic,
)


def one_step(problem, side, rate, start, noise):
    """Mean over +noise and -noise, exactly, of the loss and both energies after a step.

    Cross terms cancel between the signs, so the mean has no Monte Carlo error.
    """
    project = {
        "plain": dominant.interpolate_project(1.0, 1.0),
        "dom": dominant.dom_project(),
        "bulk": dominant.bulk_project(),
    }[side]
    tx, subspace = optax.chain(optax.sgd(rate), project), problem.subspace(1e-13)
    params = problem.params(start)
    results = []
    for sign in (1, -1):
        data = problem.data(jnp.asarray(sign * noise))
        g = jax.grad(problem.loss_fn)(params, data)
        step, _ = tx.update(g, tx.init(params), params, subspace=subspace)
        after = optax.apply_updates(params, step)
        full = jax.grad(problem.loss_fn)(after, problem.data())
        energies = [
            float(jnp.square(optax.tree.norm(part(full, subspace))))
            for part in (dominant.project, dominant.reject)
        ]
        results.append([float(problem.loss_fn(after, problem.data())), *energies])
    return np.mean(results, axis=0)


@pytest.fixture
def threshold(x64):
    """A two-level quadratic with a point, its noise, and the noise-to-signal ratios."""
    problem = Quadratic(TWO_LEVELS, K)
    start = np.concatenate([np.full(K, 0.02), np.full(N - K, 0.5)])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(N) * np.concatenate(
        [np.full(K, 1.0), np.full(N - K, 0.1)]
    )
    g = problem.eigenvalues * start
    energies = np.array([np.sum(g[:K] ** 2), np.sum(g[K:] ** 2)])
    ratios = np.array([np.sum(noise[:K] ** 2), np.sum(noise[K:] ** 2)]) / energies
    return problem, start, noise, energies, ratios


def test_one_step_multiplies_the_energies_as_predicted(threshold):
    problem, start, noise, energies, ratios = threshold
    levels = np.array([SHARP, FLAT])
    factors = (1 - RATE * levels) ** 2 + (RATE * levels) ** 2 * ratios
    found = one_step(problem, "plain", RATE, start, noise)[1:]
    assert np.max(np.abs(found / (energies * factors) - 1)) <= 1e-11


@pytest.mark.parametrize(("relative", "grows"), [(0.99, False), (1.01, True)])
@pytest.mark.parametrize("quiet", [False, True], ids=["noisy", "noiseless"])
def test_alignment_grows_beyond_the_critical_rate(threshold, relative, grows, quiet):
    problem, start, noise, energies, (s_d, s_b) = threshold
    if quiet:
        noise, s_d, s_b = 0 * noise, 0.0, 0.0
    critical = 2 * (SHARP - FLAT) / (SHARP**2 * (1 + s_d) - FLAT**2 * (1 + s_b))
    if quiet:
        assert abs(critical * (SHARP + FLAT) / 2 - 1) <= 10 * EPS
    _, dom, bulk = one_step(problem, "plain", relative * critical, start, noise)
    assert (dom / bulk > energies[0] / energies[1]) == grows


@pytest.mark.parametrize("side", ["dom", "bulk"])
@pytest.mark.parametrize(("relative", "hurts"), [(0.99, False), (1.01, True)])
def test_each_projected_step_has_its_own_critical_rate(
    threshold, side, relative, hurts
):
    """Dom hurts beyond 2 / (lambda (1 + s_d)), Bulk beyond 2 / (mu (1 + s_b))."""
    problem, start, noise, _, ratios = threshold
    level, ratio = (SHARP, ratios[0]) if side == "dom" else (FLAT, ratios[1])
    rate = relative * 2 / (level * (1 + ratio))
    before = float(problem.loss_fn(problem.params(start), problem.data()))
    after, _, _ = one_step(problem, side, rate, start, noise)
    assert (after > before) == hurts


def test_between_the_thresholds_bulk_helps_and_dom_hurts(threshold):
    problem, start, noise, _, (s_d, s_b) = threshold
    rate = np.sqrt(4 / (SHARP * (1 + s_d) * FLAT * (1 + s_b)))
    before = float(problem.loss_fn(problem.params(start), problem.data()))
    dom, bulk = (one_step(problem, s, rate, start, noise)[0] for s in ("dom", "bulk"))
    assert bulk < before < dom


@pytest.mark.usefixtures("x64")
def test_dom_step_is_worth_nothing_at_dominant_stationarity():
    """Var u = rate s^2 / (2 lambda - rate lambda^2) makes the threshold the rate."""
    problem = Quadratic(TWO_LEVELS, K)
    deviation = np.sqrt(RATE / (2 * SHARP - RATE * SHARP**2))
    start = np.concatenate([np.full(K, deviation), np.ones(N - K)])
    noise = np.concatenate([np.ones(K), np.zeros(N - K)])
    before = float(problem.loss_fn(problem.params(start), problem.data()))
    after, _, _ = one_step(problem, "dom", RATE, start, noise)
    assert abs(after - before) <= 1e-11 * before
