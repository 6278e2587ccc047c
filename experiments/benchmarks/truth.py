"""What is true of an instance's Hessian, from products in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.arpack import eigsh
from experiments.benchmarks.jax_solvers import Arrays
from experiments.benchmarks.problems import TOL, Instance, K
from experiments.benchmarks.solvers import Solution

Product = Callable[[np.ndarray], np.ndarray]

_MAX_LANCZOS_STEPS = 400


class Truth(NamedTuple):
    """The exact top eigenspace, float64.

    eigenvalues: [K + 1], the largest first. basis: [n, K], orthonormal.
    """

    eigenvalues: np.ndarray
    basis: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["eigenvalues"], arrays["basis"])

    def save(self, path: Path) -> None:
        """Write the arrays to one file."""
        np.savez(path, eigenvalues=self.eigenvalues, basis=self.basis)


def loss_and_product(instance: Instance) -> tuple[float, Product]:
    """Return the loss and the map v -> H v on flat vectors [n], both in float64."""
    with jax.enable_x64(True):
        arrays = Arrays.of(instance, jnp.float64)
        loss = float(arrays.loss_fn(arrays.params, arrays.data))
        compiled = arrays.flat_product()

    def product(v: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return compiled(np.asarray(v, np.float64))

    return loss, product


def find_truth(instance: Instance, product: Product) -> Truth:
    """Return the top eigenspace by ARPACK at its tightest."""
    start = instance.start.astype(np.float64)
    n = instance.num_parameters
    found = eigsh(product, start, K + 1, tol=1e-10, num_vectors=min(n, 4 * K))
    return Truth(found.eigenvalues, found.vectors[:K].T)


def lanczos_steps(instance: Instance, product: Product) -> int | None:
    """Count the Lanczos steps until the top K have a relative residual of TOL.

    With full reorthogonalization, without restarts, from the instance's start. The
    residual of Ritz pair i is |beta_m s_mi|, s_i the eigenvectors of the m-by-m T.

    Returns:
      The number m, or None if 400 are not enough.
    """
    v = instance.start.astype(np.float64)
    basis = np.empty((min(_MAX_LANCZOS_STEPS, v.size), v.size))
    alphas: list[float] = []
    betas: list[float] = []
    v /= np.linalg.norm(v)
    for m in range(1, len(basis) + 1):
        basis[m - 1] = v
        v = product(v)
        alphas.append(float(basis[m - 1] @ v))
        for _ in range(2):
            v = v - basis[:m].T @ (basis[:m] @ v)
        betas.append(float(np.linalg.norm(v)))
        off_diagonal = betas[:-1]
        projected = (
            np.diag(alphas) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
        )
        values, vectors = np.linalg.eigh(projected)
        residuals = betas[-1] * np.abs(vectors[-1, -K:])
        if m >= K and np.all(residuals <= TOL * np.abs(values[-K:])):
            return m
        v = v / betas[-1]
    return None


def relative_residual(product: Product, solution: Solution) -> float:
    """Return the largest |H u - lambda u| / |lambda| over the pairs, |u| = 1."""
    worst = 0.0
    for value, u in zip(solution.eigenvalues, solution.vectors, strict=True):
        unit = u.astype(np.float64) / np.linalg.norm(u.astype(np.float64))
        residual = np.linalg.norm(product(unit) - float(value) * unit)
        worst = np.maximum(worst, residual / abs(float(value)))  # NaN stays
    return float(worst)


def largest_sine(truth: Truth, solution: Solution) -> float:
    """Return the sine of the largest angle to the exact space, |(I - U U^T) Q|_2."""
    vectors = solution.vectors.T.astype(np.float64)
    if not np.all(np.isfinite(vectors)):
        return float("nan")
    q, _ = np.linalg.qr(vectors)
    return float(np.linalg.norm(q - truth.basis @ (truth.basis.T @ q), ord=2))
