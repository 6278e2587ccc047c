"""Symmetric problems, each with a dense float64 reference.

A problem is a symmetric matrix with a known spectrum, used as an operator on a
nested tree: `matvec(matrix)` acts on trees like `like(n, dtype)`. References are
NumPy in float64, of the matrix *as cast* to the tested precision, so that the cast
itself is not counted as an error of the code under test.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dominant

SMALL, LARGE = 31, 201  # odd: the ring's top eigenvalues then come in pairs
K = 4
SCALES = (1e-6, 1.0, 1e6)


# --- trees and flat vectors ---


def like(n: int, dtype: Any = np.float64) -> Any:
    """Zeros: a dict of lists, tuples and a scalar leaf, with n entries in all."""
    return {
        "blocks": [
            {"kernel": jnp.zeros((3, 4), dtype), "bias": jnp.zeros((4,), dtype)},
            (jnp.zeros((2, 3), dtype),),
        ],
        "head": jnp.zeros((n - 23,), dtype),
        "scale": jnp.zeros((), dtype),
    }


def flatten(tree: Any) -> jax.Array:
    """Concatenate the leaves of a tree (traceable)."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def unflatten(vector: jax.Array, template: Any) -> Any:
    """Split a vector into leaves shaped like those of `template` (traceable)."""
    leaves, structure = jax.tree.flatten(template)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = jnp.split(vector, ends[:-1])
    return structure.unflatten(
        part.reshape(leaf.shape).astype(leaf.dtype)
        for part, leaf in zip(parts, leaves, strict=True)
    )


def to_vector(tree: Any) -> np.ndarray:
    """Concatenate the leaves of a tree as float64 NumPy."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])


def to_rows(tree: Any) -> np.ndarray:
    """Turn a tree with a leading axis m into an m-by-n float64 matrix."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def from_rows(rows: np.ndarray, template: Any) -> Any:
    """Turn an m-by-n matrix into a tree with a leading axis m."""
    leaves, structure = jax.tree.flatten(template)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = np.split(np.asarray(rows), ends[:-1], axis=1)
    return structure.unflatten(
        jnp.asarray(part.reshape(len(rows), *leaf.shape), leaf.dtype)
        for part, leaf in zip(parts, leaves, strict=True)
    )


def to_tree(vector: np.ndarray, template: Any) -> Any:
    """Turn a vector into a tree like `template`."""
    return jax.tree.map(lambda leaf: leaf[0], from_rows(vector[None], template))


def cast(tree: Any, dtype: Any) -> Any:
    """Turn the leaves of a tree into arrays of one dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def matvec(matrix: jax.Array) -> Callable[[Any], Any]:
    """The matrix as an operator on trees."""

    def product(v):
        return unflatten(jnp.matmul(matrix, flatten(v), precision="highest"), v)

    return product


def dense(operator: Callable[[Any], Any], template: Any) -> np.ndarray:
    """The matrix of an operator on trees, column by column."""
    n = sum(leaf.size for leaf in jax.tree.leaves(template))
    columns = jax.jit(jax.vmap(operator))
    return to_rows(columns(from_rows(np.eye(n), template))).T


def subspace(
    rows: np.ndarray,
    template: Any,
    *,
    eigenvalues: Any = None,
    residuals: Any = None,
    next_eigenvalue: float = 0.0,
    next_residual: float = 0.0,
) -> dominant.Subspace:
    """A `Subspace` made by hand from orthonormal rows."""
    basis = from_rows(rows, template)
    dtype = jax.tree.leaves(basis)[0].dtype
    k = len(rows)
    eigenvalues = np.arange(k, 0, -1.0) if eigenvalues is None else eigenvalues
    residuals = np.zeros(k) if residuals is None else residuals
    return dominant.Subspace(
        eigenvalues=jnp.asarray(eigenvalues, dtype),
        basis=basis,
        residuals=jnp.asarray(residuals, dtype),
        next_eigenvalue=jnp.asarray(next_eigenvalue, dtype),
        next_residual=jnp.asarray(next_residual, dtype),
        num_matvecs=jnp.asarray(0, jnp.int32),
    )


# --- matrices with prescribed spectra ---


def random_rows(k: int, n: int, seed: int) -> np.ndarray:
    """K orthonormal rows, uniformly distributed."""
    gaussian = np.random.default_rng(seed).standard_normal((n, k))
    q, r = np.linalg.qr(gaussian)
    return (q * np.sign(np.diag(r))).T


def with_spectrum(eigenvalues: np.ndarray, seed: int) -> np.ndarray:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    rows = random_rows(len(eigenvalues), len(eigenvalues), seed)
    matrix = (rows.T * eigenvalues) @ rows
    return (matrix + matrix.T) / 2


def _topped(top: list[float], n: int, bottom: tuple[float, ...] = ()) -> np.ndarray:
    middle = np.linspace(1.0, -1.0, n - len(top) - len(bottom))
    return np.concatenate([top, middle, bottom])


def _padded(top: list[float], n: int) -> np.ndarray:
    return np.concatenate([top, np.zeros(n - len(top))])


# Eigenvalues as functions of n, descending; the cut is after the first K = 4.
SPECTRA: dict[str, Callable[[int], np.ndarray]] = {
    "gapped": lambda n: _topped([10, 8, 6, 4], n),
    "cluster-of-2": lambda n: _topped([10, 10 - 1e-5, 6, 4], n),
    "cluster-of-3": lambda n: _topped([10, 5, 5 - 1e-5, 5 - 2e-5], n),
    "cluster-of-4": lambda n: _topped([10, 10 - 1e-5, 10 - 2e-5, 10 - 3e-5], n),
    "cluster-across": lambda n: _topped([10, 8, 4, 4 - 1e-5, 4 - 2e-5, 3.9], n),
    "geometric": lambda n: np.geomspace(1.0, 1e-3, n),
    "linear": lambda n: np.arange(n, 0, -1.0) / n,
    "rank-6": lambda n: _padded([6, 5, 4, 3, 2, 1], n),
    "rank-2": lambda n: _padded([5, 3], n),
    "identity": np.ones,
    "zero": np.zeros,
    "multiplicities": lambda n: _topped([5, 4, 3, 2, 2, 2], n),
    "double-inside": lambda n: _topped([7, 7, 4, 4], n),
    "large-negative": lambda n: _topped([10, 7, 5, 3], n, (-50, -100)),
    "plus-minus": lambda n: _topped([10, 8, 6, 4], n, (-4, -6, -8, -10)),
    "all-negative": lambda n: -np.geomspace(1.0, 1e2, n),
    "ring": lambda n: np.sort(2 - 2 * np.cos(2 * np.pi * np.arange(n) / n))[::-1],
}
UNDEFINED_CUT = ("rank-2", "identity", "zero", "multiplicities")


@functools.cache
def matrix(name: str, n: int = SMALL, scale: float = 1.0) -> np.ndarray:
    """The float64 matrix of a named problem."""
    eigenvalues = scale * SPECTRA[name](n)
    if name == "ring":
        shift = np.roll(np.eye(n), 1, axis=0)
        return scale * (2 * np.eye(n) - shift - shift.T)
    if name in ("identity", "zero"):
        return np.diag(eigenvalues)
    return with_spectrum(eigenvalues, seed=sorted(SPECTRA).index(name) + 1000 * n)


class Reference(NamedTuple):
    """A dense eigendecomposition: matrix [n, n], eigenvalues [n] descending.

    The eigenvectors are the rows of `vectors`; `norm` is the spectral norm.
    """

    matrix: np.ndarray
    eigenvalues: np.ndarray
    vectors: np.ndarray
    norm: float

    def gap(self, k: int) -> float:
        return float(self.eigenvalues[k - 1] - self.eigenvalues[k])


def reference(array: Any) -> Reference:
    """Diagonalize in float64 a matrix of any precision."""
    array = np.asarray(array, np.float64)
    eigenvalues, columns = np.linalg.eigh(array)
    norm = float(np.max(np.abs(eigenvalues)))
    return Reference(array, eigenvalues[::-1], columns.T[::-1], norm)


def largest_sine(rows: np.ndarray, other: np.ndarray) -> float:
    """Sine of the largest principal angle between two row spaces of one dimension.

    Zero rows or NaN count as a sine of 1.
    """
    if not np.all(np.isfinite(rows)):
        return 1.0
    q, r = np.linalg.qr(rows.T)
    if np.min(np.abs(np.diag(r))) < 0.5:
        return 1.0
    return float(np.linalg.norm(q - other.T @ (other @ q), 2))


def explicit_residuals(matrix: np.ndarray, found: dominant.Subspace) -> np.ndarray:
    """The norms of H u - lambda u in float64."""
    rows = to_rows(found.basis)
    values = np.asarray(found.eigenvalues, np.float64)
    return np.linalg.norm(rows @ matrix - values[:, None] * rows, axis=1)
