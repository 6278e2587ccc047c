"""A Krylov decomposition that grows by one product at a time.

    H V = V T + Q B,        S = [V | Q] orthonormal,

V the *processed* vectors, Q the *pending* ones: the directions in which the products so
far stick out of V. T and B are small. Ritz pairs (theta, V y) of T have the residual
norm |B y|, so residuals follow from products taken, and no product is taken twice.

One step takes the first pending vector q, spends one product on it and moves q into V;
the part of H q outside S becomes pending. From one vector this is the Lanczos process,
from a block of vectors it is band Lanczos. All shapes are static: S has a fixed number
of columns, of which those in use come first.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import pytrees


class Krylov(NamedTuple):
    """A Krylov decomposition with room for m columns.

    columns: a block of m: the processed vectors, then the pending ones, then zeros.
    projected: [m, m], S^T H V; its columns from `processed` on are zero, and its block
      T of processed rows and columns is symmetric.
    processed, pending: int32 scalars.
    dropped: [m], for each processed vector the norm of what its product has outside S.
    last_remainder: scalar, norm of the latest product's part outside S.
    """

    columns: Any
    projected: jax.Array
    processed: jax.Array
    pending: jax.Array
    dropped: jax.Array
    last_remainder: jax.Array


def empty(vector: Any, m: int) -> Krylov:
    """Return a decomposition with no vector and room for m, shaped like `vector`."""
    dtype = pytrees.scalar_dtype(vector)
    return Krylov(
        columns=pytrees.zero_block(vector, m),
        projected=jnp.zeros((m, m), dtype),
        processed=jnp.zeros((), jnp.int32),
        pending=jnp.zeros((), jnp.int32),
        dropped=jnp.zeros(m, dtype),
        last_remainder=jnp.zeros((), dtype),
    )


def start_from(krylov: Krylov, block: Any) -> Krylov:
    """Make an orthonormal basis of a block's span the pending vectors."""
    basis, dimension = pytrees.orthonormalize(block)

    def place(columns: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(
            columns, b.astype(columns.dtype), 0, 0
        )

    return krylov._replace(
        columns=jax.tree.map(place, krylov.columns, basis), pending=dimension
    )


def ensure_pending(krylov: Krylov, key: jax.Array) -> Krylov:
    """Where nothing is pending, add a random direction outside all vectors so far."""

    def draw(columns: Any) -> Any:
        direction = pytrees.random_normal(key, pytrees.row(columns, 0))
        direction, _ = pytrees.orthogonalize(direction, columns)
        direction = pytrees.scaled(1 / pytrees.norm(direction), direction)
        return pytrees.with_row(columns, krylov.processed, direction)

    return krylov._replace(
        columns=pytrees.do_if(krylov.pending == 0, draw, krylov.columns),
        pending=jnp.maximum(krylov.pending, 1),
    )


def next_direction(krylov: Krylov) -> Any:
    """Return the first pending vector."""
    return pytrees.row(krylov.columns, krylov.processed)


def next_directions(krylov: Krylov, block_size: int, count: jax.Array) -> Any:
    """Return a block: the first `count` pending vectors, and zeros."""
    last = krylov.dropped.shape[0] - 1
    offsets = jnp.arange(block_size, dtype=jnp.int32)

    def rows(columns: jax.Array) -> jax.Array:
        chosen = columns[jnp.minimum(krylov.processed + offsets, last)]
        wanted = (offsets < count).reshape(-1, *[1] * (columns.ndim - 1))
        return jnp.where(wanted, chosen, 0)

    if block_size == 1:  # at least one is always wanted
        return jax.tree.map(lambda v: v[None], next_direction(krylov))
    return jax.tree.map(rows, krylov.columns)


def extend(krylov: Krylov, product: Any, norm: jax.Array) -> tuple[Krylov, jax.Array]:
    """Process the next direction, given its product with H.

    Args:
      krylov: with something pending.
      product: H applied to `next_direction(krylov)`.
      norm: scalar, an estimate of |H|: remainders below 4 eps |H| are rounding.

    Returns:
      The longer decomposition, and the product's norm.
    """
    j, m = krylov.processed, krylov.dropped.shape[0]
    remainder, along = pytrees.orthogonalize(product, krylov.columns)
    beta = pytrees.norm(remainder)
    size = jnp.sqrt(jnp.sum(along**2) + beta**2)
    place = j + krylov.pending
    eps = jnp.finfo(beta.dtype).eps
    keep = (beta > 4 * eps * jnp.maximum(size, norm)) & (place < m)
    # Where it is not kept, the row is written back as it was.
    row_index = jnp.minimum(place, m - 1)
    direction = pytrees.scaled(1 / jnp.where(keep, beta, 1), remainder)
    direction = jax.tree.map(
        lambda new, old: jnp.where(keep, new, old),
        direction,
        pytrees.row(krylov.columns, row_index),
    )
    columns = pytrees.with_row(krylov.columns, row_index, direction)
    index = _indices(krylov)
    column = along + jnp.where((index == place) & keep, beta, 0)
    projected = jnp.where((index == j)[None, :], column[:, None], krylov.projected)
    # Measured rather than inherited: the row takes in what was let go before.
    row = (index == j)[:, None] & (index < j)[None, :]
    projected = jnp.where(row, along[None, :], projected)
    longer = krylov._replace(
        columns=columns,
        projected=projected,
        processed=j + 1,
        pending=krylov.pending - 1 + keep.astype(jnp.int32),
        dropped=jnp.where((index == j) & ~keep, beta, krylov.dropped),
        last_remainder=beta,
    )
    return longer, size


def ritz(krylov: Krylov, low: Any = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return Ritz values (descending), vectors and residual norms: [m], [m, m], [m].

    Args:
      krylov: the decomposition.
      low: use only the processed vectors from this one on.

    The entries beyond the vectors in use sort last; their values mean nothing.
    """
    index = _indices(krylov)
    used = (index >= low) & (index < krylov.processed)
    matrix = jnp.where(used[:, None] & used[None, :], krylov.projected, 0)
    scale = jnp.linalg.norm(matrix)
    scale = jnp.where(scale > 0, scale, 1)
    # On the unit scale -2 lies below every Ritz value.
    matrix = matrix / scale + jnp.diag(jnp.where(used, 0, -2).astype(matrix.dtype))
    values, vectors = jnp.linalg.eigh(matrix)
    values, vectors = values[::-1] * scale, vectors[:, ::-1]
    is_pending = (index >= krylov.processed)[:, None]
    outside = jnp.where(is_pending, matmul(krylov.projected, vectors), 0)
    dropped = matmul(krylov.dropped, jnp.abs(vectors))
    residuals = jnp.sqrt(jnp.sum(outside**2, axis=0) + dropped**2)
    return values, vectors, residuals


class Rotation(NamedTuple):
    """A change of the columns, S <- S (I - 2 n n^T) W, that `rotate` carries out.

    normal: [m], the unit vector n of a reflection, or 0.
    matrix: [m, m], W; unused where `has_matrix` is false.
    """

    normal: jax.Array
    matrix: jax.Array
    has_matrix: jax.Array


def no_rotation(krylov: Krylov) -> Rotation:
    """Return the rotation that leaves everything as it is."""
    zeros = jnp.zeros_like(krylov.projected)
    return Rotation(zeros[0], zeros, jnp.zeros((), bool))


def rotate(columns: Any, rotation: Rotation) -> Any:
    """Carry out a rotation of the columns, in place where the compiler can."""
    normal, matrix, has_matrix = rotation

    def reflect(columns: Any) -> Any:
        along = pytrees.combine(columns, normal)
        return jax.tree.map(
            lambda c, a: c - jnp.tensordot(2 * normal.astype(c.dtype), a, 0),
            columns,
            along,
        )

    columns = pytrees.do_if(jnp.any(normal != 0), reflect, columns)
    return pytrees.do_if(has_matrix, lambda c: pytrees.rotate(c, matrix), columns)


# The following change all fields but the columns, and return what is to be done there.


def turn(krylov: Krylov, ritz_vector: jax.Array) -> tuple[Krylov, Rotation]:
    """Rotate the pending vectors so that the next direction is that of a residual.

    A Householder reflection of Q. With one vector pending there is nothing to turn.

    Args:
      krylov: the decomposition.
      ritz_vector: [m], the y of a Ritz pair; its residual is Q B y.
    """
    index, j = _indices(krylov), krylov.processed
    is_pending = (index >= j) & (index < j + krylov.pending)
    weights = jnp.where(is_pending, matmul(krylov.projected, ritz_vector), 0)
    length = jnp.linalg.norm(weights)
    first = (index == j).astype(weights.dtype)
    unit = jnp.where(length > 0, weights / jnp.where(length > 0, length, 1), first)
    # The sign that avoids cancellation: that of the direction does not matter.
    normal = unit + jnp.where(unit[j] >= 0, 1, -1).astype(unit.dtype) * first
    normal = jnp.where(krylov.pending > 1, normal / jnp.linalg.norm(normal), 0)
    rows = jnp.outer(2 * normal, matmul(normal, krylov.projected))
    rotation = no_rotation(krylov)._replace(normal=normal)
    return krylov._replace(projected=krylov.projected - rows), rotation


def compress(
    krylov: Krylov, ritz_vectors: jax.Array, kept: Any, keep_pending: Any
) -> tuple[Krylov, Rotation]:
    """Replace the processed vectors by their leading Ritz vectors (a thick restart).

    Args:
      krylov: the decomposition.
      ritz_vectors: [m, m], of `ritz(krylov)`.
      kept: int32, how many.
      keep_pending: if false the pending vectors go, and H V = V T holds only up to
        the residuals, which is for the caller to note in `dropped`.
    """
    index = _indices(krylov)
    pending = jnp.where(keep_pending, krylov.pending, 0)
    to_ritz = jnp.where((index < kept)[None, :], ritz_vectors, 0)
    source = index - kept + krylov.processed
    is_pending = (index >= kept) & (index < kept + pending)
    shift = (index[:, None] == source[None, :]) & is_pending[None, :]
    matrix = to_ritz + shift.astype(to_ritz.dtype)
    shorter = krylov._replace(
        projected=matmul(matrix.T, matmul(krylov.projected, to_ritz)),
        processed=jnp.asarray(kept, jnp.int32),
        pending=pending,
        dropped=matmul(krylov.dropped, jnp.abs(to_ritz)),
    )
    return shorter, Rotation(jnp.zeros_like(matrix[0]), matrix, jnp.ones((), bool))


def reopen(
    krylov: Krylov, ritz_vectors: jax.Array, kept: int
) -> tuple[Krylov, Rotation]:
    """Start anew from the leading Ritz vectors: all of them pending, none processed."""
    shorter, rotation = compress(krylov, ritz_vectors, kept, keep_pending=False)
    reopened = shorter._replace(
        projected=jnp.zeros_like(shorter.projected),
        processed=jnp.zeros((), jnp.int32),
        pending=jnp.asarray(kept, jnp.int32),
        dropped=jnp.zeros_like(shorter.dropped),
    )
    return reopened, rotation


def num_parameters(krylov: Krylov) -> int:
    """Return n, the length of a vector."""
    return pytrees.size(krylov.columns) // krylov.dropped.shape[0]


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply small matrices at full precision."""
    return jnp.matmul(a, b, precision=pytrees.HIGHEST)


def _indices(krylov: Krylov) -> jax.Array:
    return jnp.arange(krylov.dropped.shape[0], dtype=jnp.int32)
