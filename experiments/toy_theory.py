"""What stochastic gradient descent does on a quadratic, exactly, in float64.

Coordinates are those of the Hessian's eigenbasis, dominant ones first; lr is the
learning rate. Song, Ahn and Yun (2025), Sec. 4, describe the toy; the closed forms are
derived here, each in its docstring.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class LinearStep(NamedTuple):
    """A step theta+ = (M + e N) theta + z, e = +-1 with equal chances, z of mean zero.

    mean: M, [n, n]. coupling: N, [n, n]. covariance: of z, [n, n].
    """

    mean: np.ndarray
    coupling: np.ndarray
    covariance: np.ndarray


def linear_step(
    eigenvalues: npt.ArrayLike,
    weights: npt.ArrayLike,
    lr: float,
    *,
    coupling: float = 0.0,
    noise_std: float = 0.0,
) -> LinearStep:
    """Return the step of SGD whose update is weighted, coordinate by coordinate.

    theta+ = theta - lr W ((H + e c J) theta + s xi), where H = diag(eigenvalues), W =
    diag(weights) and J swaps x and y: the gradient of 1/2 theta^T H theta +- c x y, or
    of the quadratic alone with noise of standard deviation s in each coordinate.

    Args:
      eigenvalues: [n].
      weights: [n]; ones for SGD, ones and zeros for Dom- and Bulk-SGD.
      lr: the learning rate.
      coupling: c; n must be 2 if it is not zero.
      noise_std: s.

    Raises:
      ValueError: if there is a coupling and n is not 2.
    """
    curvature = np.diag(np.asarray(eigenvalues, float))
    weight = np.diag(np.asarray(weights, float))
    n = len(curvature)
    swap = np.zeros((n, n))
    if coupling:
        if n != 2:
            raise ValueError(f"a coupling of x and y needs 2 coordinates, got {n}.")
        swap = coupling * np.array([[0.0, 1.0], [1.0, 0.0]])
    return LinearStep(
        mean=np.eye(n) - lr * weight @ curvature,
        coupling=-lr * weight @ swap,
        covariance=(lr * noise_std) ** 2 * weight @ weight.T,
    )


def second_moments(
    step: LinearStep, start: npt.ArrayLike, num_steps: int
) -> np.ndarray:
    """Return E theta theta^T after 0, 1, ..., num_steps steps, [num_steps + 1, n, n].

    S+ = M S M^T + N S N^T + C: as e is drawn anew, the terms odd in it have mean zero.
    """
    theta = np.asarray(start, float)
    moments = [np.outer(theta, theta)]
    for _ in range(num_steps):
        moment = moments[-1]
        moments.append(
            step.mean @ moment @ step.mean.T
            + step.coupling @ moment @ step.coupling.T
            + step.covariance
        )
    return np.stack(moments)


def stationary_variance(eigenvalue: float, lr: float, noise_std: float) -> float:
    """Return lim E u^2 = lr s^2 / (2 lambda - lr lambda^2), for 0 < lr lambda < 2.

    The fixed point of v+ = (1 - lr lambda)^2 v + lr^2 s^2.
    """
    return lr * noise_std**2 / (2 * eigenvalue - lr * eigenvalue**2)


def noise_energy_ratio(
    lr: float, k: int, n: int, dominant: float, bulk: float
) -> float:
    """Return lim E|P_k g|^2 / E|g|^2 under isotropic noise, of whatever size.

    a / (a + b), a = k lambda / (2 - lr lambda), b = (n - k) mu / (2 - lr mu): lambda^2
    times `stationary_variance`, over lr s^2. It is the ratio of energies, chi_k's
    square, not chi_k.

    Args:
      lr: the learning rate.
      k: dominant coordinates, of n.
      n: all of them.
      dominant: lambda, the eigenvalue of the k.
      bulk: mu, the eigenvalue of the others.
    """
    a = k * dominant / (2 - lr * dominant)
    b = (n - k) * bulk / (2 - lr * bulk)
    return a / (a + b)


def coupled_variance_ratio(lr: float, dominant: float, coupling: float) -> float:
    """Return lim E x^2 / E y^2 = c^2 lr / (lambda (2 - lr lambda)) for a frozen y.

    The fixed point of E x^2+ = (1 - lr lambda)^2 E x^2 + lr^2 c^2 y^2. SGD's y moves,
    slowly: its ratio is this one up to O(lr).
    """
    return coupling**2 * lr / (dominant * (2 - lr * dominant))


def coupled_dom_loss(
    lr: float, y: float, dominant: float, bulk: float, coupling: float
) -> float:
    """Return the limit of Dom-SGD's mean loss: y^2/2 (mu + c^2 lr / (2 - lr lambda)).

    1/2 (lambda E x^2 + mu y^2), with `coupled_variance_ratio`. So Dom-SGD does not stop
    at the valley's floor above its y, which it cannot leave, but at a loss well above.
    """
    ratio = coupled_variance_ratio(lr, dominant, coupling)
    return y**2 / 2 * (bulk + dominant * ratio)
