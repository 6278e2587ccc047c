"""The toy's closed forms against enumeration, simulation, and the papers' formulas."""

import itertools

import numpy as np
import pytest

from experiments import toy_theory

LR = 5e-4
LAMBDAS = (1000.0, 1.0)


def enumerated_moments(weights, start, num_steps, lr=LR, coupling=100.0):
    """E theta theta^T after num_steps, the mean over all 2^num_steps sign sequences."""
    total = np.zeros((2, 2))
    for signs in itertools.product((1.0, -1.0), repeat=num_steps):
        x, y = start
        for sign in signs:
            gx = 1000 * x + sign * coupling * y
            gy = y + sign * coupling * x
            x, y = x - lr * weights[0] * gx, y - lr * weights[1] * gy
        total += np.outer((x, y), (x, y))
    return total / 2**num_steps


@pytest.mark.parametrize(
    "weights", [(1, 1), (1, 0), (0, 1)], ids=["sgd", "dom", "bulk"]
)
def test_the_recursion_is_the_mean_over_all_sign_sequences(weights):
    step = toy_theory.linear_step(LAMBDAS, weights, LR, coupling=100.0)
    moments = toy_theory.second_moments(step, (0.03, 1.0), 9)
    assert moments.shape == (10, 2, 2)
    for num_steps in (0, 1, 5, 9):
        expected = enumerated_moments(weights, (0.03, 1.0), num_steps)
        np.testing.assert_allclose(moments[num_steps], expected, rtol=1e-12)


def test_the_recursion_is_the_published_one():
    step = toy_theory.linear_step(LAMBDAS, (1, 1), LR, coupling=100.0)
    x2, y2, xy = 0.02**2, 1.3**2, 0.02 * 1.3
    for moment in toy_theory.second_moments(step, (0.02, 1.3), 50):
        np.testing.assert_allclose(moment, [[x2, xy], [xy, y2]], rtol=1e-12)
        x2, y2, xy = (
            (1 - 1000 * LR) ** 2 * x2 + 1e4 * LR**2 * y2,
            (1 - LR) ** 2 * y2 + 1e4 * LR**2 * x2,
            ((1 - 1000 * LR) * (1 - LR) + 1e4 * LR**2) * xy,
        )


def test_isotropic_noise_against_simulation():
    lambdas, lr, std = np.array([20.0, 0.5, 0.5]), 0.05, 0.7
    step = toy_theory.linear_step(lambdas, np.ones(3), lr, noise_std=std)
    moments = toy_theory.second_moments(step, (0.1, 0.2, -0.3), 30)
    rng, theta = np.random.default_rng(0), np.tile([0.1, 0.2, -0.3], (200_000, 1))
    for _ in range(30):
        theta = theta - lr * (lambdas * theta + std * rng.standard_normal(theta.shape))
    for i, j in itertools.product(range(3), repeat=2):
        product = theta[:, i] * theta[:, j]
        error = product.std() / len(theta) ** 0.5
        assert abs(product.mean() - moments[-1, i, j]) < 4 * error


def test_stationary_variance_is_where_the_recursion_ends():
    for value in (20.0, 0.5, 39.0):
        step = toy_theory.linear_step([value], [1.0], 0.05, noise_std=0.7)
        end = toy_theory.second_moments(step, [0.0], 2000)[-1, 0, 0]
        assert toy_theory.stationary_variance(value, 0.05, 0.7) == pytest.approx(end)


def test_energy_ratio_is_the_published_number():
    """Item 2 of the reference: k 3, n 12, lambda 20, mu 0.5, lr 0.05 give 0.963."""
    ratio = toy_theory.noise_energy_ratio(0.05, 3, 12, 20.0, 0.5)
    assert ratio == pytest.approx(0.963, abs=5e-4)
    assert toy_theory.noise_energy_ratio(LR, 1, 2, *LAMBDAS) == pytest.approx(0.99925)


def test_coupled_limits_are_where_the_recursion_ends():
    dom = toy_theory.linear_step(LAMBDAS, (1, 0), LR, coupling=100.0)
    end = toy_theory.second_moments(dom, (0.0, 1.0), 100)[-1]
    ratio = toy_theory.coupled_variance_ratio(LR, 1000.0, 100.0)
    assert ratio == pytest.approx(end[0, 0])
    loss = toy_theory.coupled_dom_loss(LR, 1.0, 1000.0, 1.0, 100.0)
    assert loss == pytest.approx(500 * end[0, 0] + end[1, 1] / 2)
    assert loss == pytest.approx(13 / 6)  # the published 2.1667
    # SGD's own ratio, published for lr 1e-3: 0.010019 against 0.01.
    sgd = toy_theory.linear_step(LAMBDAS, (1, 1), 1e-3, coupling=100.0)
    end = toy_theory.second_moments(sgd, (0.0, 1.0), 100)[-1]
    assert toy_theory.coupled_variance_ratio(1e-3, 1000.0, 100.0) == pytest.approx(0.01)
    assert end[0, 0] / end[1, 1] == pytest.approx(0.010019, abs=1e-6)


def test_bulk_off_the_axis_has_the_published_variance():
    """x frozen at x_0: Var y -> 1e4 lr x_0^2 / (2 - lr), E y_t = (1 - lr)^t y_0."""
    step = toy_theory.linear_step(LAMBDAS, (0, 1), LR, coupling=100.0)
    end = toy_theory.second_moments(step, (0.01, 1.0), 20_000)[-1]
    assert end[0, 0] == pytest.approx(1e-4)
    assert end[1, 1] == pytest.approx(1e4 * LR * 1e-4 / (2 - LR), rel=1e-5)


def test_a_coupling_needs_two_coordinates():
    with pytest.raises(ValueError, match="got 3"):
        toy_theory.linear_step((9.0, 1.0, 1.0), (1, 1, 1), 0.1, coupling=1.0)
