"""The Lanczos process on pytrees."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import pytrees
from dominant.curvature import Matvec


class Tridiagonal(NamedTuple):
    """An m-step Lanczos factorization A Q = Q T + r e_m^T.

    diagonal: [m], of T.
    off_diagonal: [m - 1], of T, not negative.
    basis: a block of m orthonormal vectors, the columns of Q.
    residual_norm: scalar, |r|.
    """

    diagonal: jax.Array
    off_diagonal: jax.Array
    basis: Any
    residual_norm: jax.Array


def tridiagonalize(matvec: Matvec, start: Any, num_steps: int) -> Tridiagonal:
    """Run `num_steps` Lanczos steps from `start`, reorthogonalizing in two passes.

    A scan: it jits, and vmaps over starts and operators. Where the Krylov space is
    exhausted before `num_steps` (|r| at rounding level), the rest of T and of the basis
    is zero and residual_norm is 0.

    Args:
      matvec: product with a symmetric matrix A.
      start: a vector, not zero, of any length.
      num_steps: m, also the number of products.

    Raises:
      ValueError: if num_steps is not between 1 and the number of parameters.
    """
    start = pytrees.wide(start)
    num_parameters = pytrees.size(start)
    if not 1 <= num_steps <= num_parameters:
        raise ValueError(
            f"num_steps must be between 1 and the number of parameters "
            f"({num_parameters}), got {num_steps}."
        )
    dtype = pytrees.scalar_dtype(start)
    eps = jnp.finfo(dtype).eps
    first = pytrees.scaled(1 / pytrees.norm(start), start)
    basis = pytrees.with_row(pytrees.zero_block(first, num_steps), 0, first)

    def step(carry: Any, i: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        basis, scale = carry
        q = pytrees.row(basis, i)
        w, along = pytrees.orthogonalize(matvec(q), basis)
        alpha = along[i]
        beta = pytrees.norm(w)
        scale = jnp.maximum(scale, jnp.linalg.norm(along))
        exhausted = beta <= 10 * eps * scale
        beta = jnp.where(exhausted, 0, beta)
        unit = pytrees.scaled(
            jnp.where(exhausted, 0, 1 / jnp.where(beta > 0, beta, 1)), w
        )
        # The last step has no place for its remainder: index m - 1 keeps its vector.
        last = i == num_steps - 1
        place = jnp.minimum(i + 1, num_steps - 1)
        unit = jax.tree.map(lambda u, b: jnp.where(last, b, u), unit, q)
        return (pytrees.with_row(basis, place, unit), scale), (alpha, beta)

    (basis, _), (diagonal, betas) = jax.lax.scan(
        step, (basis, jnp.zeros((), dtype)), jnp.arange(num_steps)
    )
    return Tridiagonal(diagonal, betas[:-1], basis, betas[-1])
