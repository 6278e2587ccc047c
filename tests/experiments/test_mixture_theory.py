"""The closed forms of mixtures, against samples, the flow, and published numbers."""

import itertools

import numpy as np
import pytest

from experiments import mixture_theory as theory


@pytest.mark.parametrize(("k", "snr"), [(4, 40.0), (4, 4.0)])
def test_outliers_of_a_sample_at_zero(k, snr):
    dimension, num = 150, 1500
    rng = np.random.default_rng(0)
    means = np.eye(k, dimension)
    component = rng.integers(k, size=num)
    noise = rng.normal(size=(num, dimension)) / np.sqrt(snr)
    inputs = means[component] + noise
    p = 1 / k
    values, vectors = np.linalg.eigh(p * (1 - p) * inputs.T @ inputs / num)
    expected = theory.outlier_at_zero(k, snr, dimension / num)
    assert expected.visible
    np.testing.assert_allclose(values[-k:].mean(), expected.eigenvalue, rtol=0.02)
    np.testing.assert_allclose(values[-k - 1], expected.edge, rtol=0.05)
    squares = (vectors[:k, -k:] ** 2).sum(axis=0)
    np.testing.assert_allclose(squares.mean(), expected.squared_overlap, atol=0.02)


def test_an_outlier_is_visible_above_the_threshold_alone():
    ratio, k = 0.04, 10  # snr / k > 0.2
    below, above = (theory.outlier_at_zero(k, snr, ratio) for snr in (1.9, 2.1))
    assert not below.visible
    assert below.squared_overlap == 0
    assert below.eigenvalue == below.edge
    assert above.visible
    assert above.eigenvalue > above.edge
    assert above.eigenvalue / above.edge - 1 < 1e-3


def test_alignment_with_the_first_eigenvector_on_the_flow():
    """Integrate the noiseless logistic flow, and take its class block."""
    k = 5
    x = np.zeros((k, k))  # rows x^c in the coordinates of the means
    for _ in range(3000):
        scores = x  # of mean a: <x^c, mu_a>
        p = np.exp(scores) / np.exp(scores).sum(axis=0)
        x = x + 0.05 * (np.eye(k) - p) / k
    p = np.exp(x) / np.exp(x).sum(axis=0)
    block = np.diag(p[0] * (1 - p[0])) / k
    _, vectors = np.linalg.eigh(block)
    found = abs(vectors[:, -1] @ x[0]) / np.linalg.norm(x[0])
    np.testing.assert_allclose(found, theory.alignment_with_first(k), rtol=1e-6)


def test_clusters_weight_at_the_fixed_point():
    """d/dt of one neuron's v = m: (sigmoid(-v^2) / 4 - ridge) v."""
    for ridge in (0.05, 0.1):
        v = 0.3
        for _ in range(200_000):
            v += 0.05 * (1 / (1 + np.exp(v * v)) / 4 - ridge) * v
        np.testing.assert_allclose(v * v, theory.weight_of_cluster(ridge), rtol=1e-6)
    assert theory.weight_of_cluster(0.125) == theory.weight_of_cluster(0.2) == 0
    np.testing.assert_allclose(theory.weight_of_cluster(0.1), 0.405465, rtol=1e-5)
    np.testing.assert_allclose(theory.output_eigenvalue(0.05), 0.055452, rtol=1e-4)


@pytest.mark.parametrize("num_neurons", [1, 3, 4, 6])
def test_the_law_of_served_clusters_by_counting(num_neurons):
    counts = np.zeros(5)
    for choice in itertools.product(range(4), repeat=num_neurons):
        counts[len(set(choice))] += 1
    expected = counts / counts.sum()
    np.testing.assert_allclose(theory.served_law(num_neurons), expected, atol=1e-12)


def test_the_published_probability():
    assert theory.served_law(4)[4] == pytest.approx(3 / 32)
