"""What theory says of classifiers of Gaussian mixtures, as numbers.

Of logistic regression on k orthonormal means and of two layers on the XOR mixture, both
with noise of variance 1 / snr in each of d coordinates; curvature on M examples (Ben
Arous et al. 2022 and 2023; closed forms that are not theirs were derived and checked
for this project).
"""

import math
from typing import NamedTuple

# Logistic regression at x = 0, where all p = 1 / k.


class Outlier(NamedTuple):
    """An outlier of a class block at x = 0, and the bulk beside it.

    eigenvalue: of the k outliers, in the mean over samples. edge: of the bulk.
    squared_overlap: of an eigenvector with the span of the means, 0 if not visible.
    visible: whether it is outside of the bulk.
    """

    eigenvalue: float
    edge: float
    squared_overlap: float
    visible: bool


def threshold_at_zero(k: int, ratio: float) -> float:
    """Return the snr of the spectral transition at x = 0, k sqrt(d / M).

    Args:
      k: components.
      ratio: d / M.
    """
    return k * math.sqrt(ratio)


def outlier_at_zero(k: int, snr: float, ratio: float) -> Outlier:
    """Return the outliers of H_cc at x = 0: a spiked covariance (Baik et al. 2005).

    p (1 - p) / snr times a sample covariance with k spikes 1 + snr / k, each visible
    where snr is above `threshold_at_zero`.

    Args:
      k: components.
      snr: the signal-to-noise ratio.
      ratio: d / M.
    """
    scale = (1 / k) * (1 - 1 / k) / snr
    spike, edge = 1 + snr / k, scale * (1 + math.sqrt(ratio)) ** 2
    visible = snr > threshold_at_zero(k, ratio)
    if not visible:
        return Outlier(edge, edge, 0.0, visible)
    return Outlier(
        scale * spike * (1 + ratio / (spike - 1)),
        edge,
        (1 - ratio / (spike - 1) ** 2) / (1 + ratio / (spike - 1)),
        visible,
    )


def alignment_with_first(k: int) -> float:
    """Return |<u_1, x^c>| / |x^c| on the noiseless flow from 0, u_1 = mu_c.

    x^c is u mu_c - u / (k - 1) times the sum of the other means.
    """
    return math.sqrt((k - 1) / k)


# Two layers on the XOR mixture, snr -> infinity.


def weight_of_cluster(ridge: float) -> float:
    """Return C = -logit(4 ridge), the sum of v_i^2 over the neurons of a cluster.

    0 where the ridge is 1/8 or more: then the only fixed point is 0. The ridge is
    positive.
    """
    return math.log((1 - 4 * ridge) / (4 * ridge)) if ridge < 1 / 8 else 0.0


def output_eigenvalue(ridge: float) -> float:
    """Return the eigenvalue of H_vv (without the ridge) for each served cluster."""
    return ridge * (1 - 4 * ridge) * weight_of_cluster(ridge)


def served_law(num_neurons: int) -> list[float]:
    """Return P(n of the four clusters are served), n = 0 .. 4.

    Each neuron goes to one of them with equal chance, decided at the start.
    """

    def at_most(allowed: int) -> float:
        return (allowed / 4) ** num_neurons

    def exactly(n: int) -> float:
        terms = ((-1) ** j * math.comb(n, j) * at_most(n - j) for j in range(n + 1))
        return math.comb(4, n) * sum(terms)

    return [exactly(n) for n in range(5)]
