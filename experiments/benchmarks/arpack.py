"""SciPy's eigsh (ARPACK, implicitly restarted Lanczos) with its products counted."""

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import eigsh as scipy_eigsh

from experiments.benchmarks.solvers import Solution


def eigsh(
    product: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    k: int,
    *,
    tol: float,
    num_vectors: int | None = None,
) -> Solution:
    """Return the k algebraically largest eigenpairs, the largest first.

    Args:
      product: v -> H v on flat vectors [n], in the start's dtype.
      start: [n], the first Lanczos vector.
      k: how many pairs.
      tol: relative error bound at which ARPACK stops; 0 is machine precision.
      num_vectors: Lanczos vectors kept; None is SciPy's default, max(2 k + 1, 20).

    Raises:
      ArpackNoConvergence: if it gives up.
    """
    num_matvecs = 0

    def counted(v: np.ndarray) -> np.ndarray:
        nonlocal num_matvecs
        num_matvecs += 1
        return product(v)

    operator = LinearOperator((start.size, start.size), counted, dtype=start.dtype)
    values, vectors = scipy_eigsh(
        operator, k=k, which="LA", v0=start, tol=tol, ncv=num_vectors
    )
    return Solution(values[::-1], vectors.T[::-1], num_matvecs)
