"""Linear algebra on pytrees.

A *vector* is a tree shaped like the parameters. A *block* of m vectors is such a tree
whose leaves carry a leading axis of length m. Nothing is ever flattened into one long
vector: leaves keep their shapes and their sharding, and only m-by-m matrices are
formed. Non-floating leaves of the parameters are None in vectors and blocks.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any

HIGHEST = jax.lax.Precision.HIGHEST

# Entries of a block's leaf; 1 MiB in float32.
_SLICED_FROM = 2**18


def _is_none(leaf: Any) -> bool:
    return leaf is None


def floating(tree: Tree) -> Tree:
    """Keep the floating-point leaves of a tree; the others become None."""

    def keep(leaf: Any) -> Any:
        return leaf if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else None

    return jax.tree.map(keep, tree)


def merge(vector: Tree, tree: Tree) -> Tree:
    """Fill the None leaves of `vector` with those of `tree`."""
    return jax.tree.map(
        lambda v, leaf: leaf if v is None else v, vector, tree, is_leaf=_is_none
    )


def like(vector: Tree, tree: Tree) -> Tree:
    """Cast the leaves of `vector` to the dtypes of `tree`."""
    return jax.tree.map(lambda v, leaf: v.astype(jnp.result_type(leaf)), vector, tree)


def wide(tree: Tree) -> Tree:
    """Cast floating leaves narrower than float32 to float32."""
    return jax.tree.map(lambda leaf: leaf.astype(_wide_dtype(leaf)), tree)


def _wide_dtype(leaf: Any) -> jnp.dtype:
    dtype = jnp.dtype(jnp.result_type(leaf))
    return dtype if dtype.itemsize > 4 else jnp.dtype(jnp.float32)


def scalar_dtype(tree: Tree) -> jnp.dtype:
    """Return the dtype of inner products: the widest leaf's, at least float32."""
    dtypes = [jnp.dtype(jnp.float32), *map(_wide_dtype, jax.tree.leaves(tree))]
    return max(dtypes, key=lambda dtype: dtype.itemsize)


def size(vector: Tree) -> int:
    """Return the number of scalars in a vector."""
    return sum(leaf.size for leaf in jax.tree.leaves(vector))


def require_same_structure(tree: Tree, reference: Tree, name: str, other: str) -> None:
    """Raise ValueError unless `tree` has the structure and shapes of `reference`."""
    got: Any = jax.tree.structure(tree)
    expected: Any = jax.tree.structure(reference)
    if got != expected:
        raise ValueError(
            f"{name} must have the tree structure of {other}: "
            f"got {got}, expected {expected}."
        )
    paths = jax.tree_util.tree_leaves_with_path(reference)
    for leaf, (path, expected_leaf) in zip(jax.tree.leaves(tree), paths, strict=True):
        if jnp.shape(leaf) != jnp.shape(expected_leaf):
            raise ValueError(
                f"{name} must have the shapes of {other}: at "
                f"{jax.tree_util.keystr(path) or 'the root'} got {jnp.shape(leaf)}, "
                f"expected {jnp.shape(expected_leaf)}."
            )


def do_if(condition: jax.Array, function: Callable[[Any], Any], operand: Any) -> Any:
    """Return `function(operand)` if the condition holds, else the operand.

    For large operands. `lax.cond` gives each branch buffers of its own, so what merely
    passes through is copied; a loop of one turn or none leaves it in place. Under vmap
    with a batched condition nothing runs where no member needs it.
    """

    def turn(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        return jnp.zeros_like(carry[0]), function(carry[1])

    return jax.lax.while_loop(lambda carry: carry[0], turn, (condition, operand))[1]


# --- vectors --------------------------------------------------------------------------


def dot(a: Tree, b: Tree) -> jax.Array:
    """Inner product of two vectors, in float32 or wider."""
    dtype = scalar_dtype(a)
    products = jax.tree.map(
        lambda x, y: jnp.vdot(wide(x), wide(y), precision=HIGHEST).astype(dtype), a, b
    )
    return functools.reduce(jnp.add, jax.tree.leaves(products), jnp.zeros((), dtype))


def norm(a: Tree) -> jax.Array:
    """Euclidean norm of a vector."""
    return jnp.sqrt(dot(a, a))


def axpy(scale: jax.Array, x: Tree, y: Tree) -> Tree:
    """Return scale x + y."""
    return jax.tree.map(lambda a, b: scale.astype(a.dtype) * a + b, x, y)


def scaled(scale: jax.Array, x: Tree) -> Tree:
    """Return scale x."""
    return jax.tree.map(lambda leaf: scale.astype(leaf.dtype) * leaf, x)


def random_normal(key: jax.Array, vector: Tree) -> Tree:
    """Return a vector of independent standard normals, in float32 or wider."""
    return _random(jax.random.normal, key, vector)


def random_signs(key: jax.Array, vector: Tree) -> Tree:
    """Return a vector of independent signs, 1 or -1, in float32 or wider."""
    return _random(jax.random.rademacher, key, vector)


def _random(draw: Callable[..., jax.Array], key: jax.Array, vector: Tree) -> Tree:
    leaves, structure = jax.tree.flatten(vector)
    draws = [
        draw(jax.random.fold_in(key, i), jnp.shape(leaf), _wide_dtype(leaf))
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, draws)


# --- blocks ---------------------------------------------------------------------------


def zero_block(vector: Tree, m: int) -> Tree:
    """Return a block of m zero vectors, laid out as the vector's leaves are."""

    def zeros(leaf: Any) -> jax.Array:
        zero = jnp.zeros_like(leaf, dtype=_wide_dtype(leaf))
        return jnp.broadcast_to(zero, (m, *zero.shape))

    return jax.tree.map(zeros, vector)


def row(block: Tree, i: Any) -> Tree:
    """Return vector i of a block."""
    return jax.tree.map(
        lambda b: jax.lax.dynamic_index_in_dim(b, i, 0, keepdims=False), block
    )


def with_row(block: Tree, i: Any, vector: Tree) -> Tree:
    """Return the block with vector i replaced."""
    return jax.tree.map(
        lambda b, v: jax.lax.dynamic_update_index_in_dim(b, v.astype(b.dtype), i, 0),
        block,
        vector,
    )


def gram(a: Tree, b: Tree) -> jax.Array:
    """Return the inner products A^T B, [m, p], of two blocks.

    Slice by slice, since XLA transposes what it multiplies.
    """
    dtype = scalar_dtype(a)

    def slice_gram(x: jax.Array, y: jax.Array) -> jax.Array:
        axes = tuple(range(1, x.ndim))
        return jnp.tensordot(x, y, (axes, axes), precision=HIGHEST).astype(dtype)

    def leaf_gram(x: jax.Array, y: jax.Array) -> jax.Array:
        axis, num_slices = _slicing(x.shape)
        if num_slices == 1 or 1 in (len(x), len(y)):
            return slice_gram(x, y)
        x, y = (_split(b, axis, num_slices) for b in (x, y))

        def add_slice(i: Any, total: jax.Array) -> jax.Array:
            parts = (
                jax.lax.dynamic_index_in_dim(b, i, axis + 1, keepdims=False)
                for b in (x, y)
            )
            return total + slice_gram(*parts)

        zero = jnp.zeros((len(x), len(y)), dtype)
        return jax.lax.fori_loop(0, num_slices, add_slice, zero)

    products = jax.tree.leaves(jax.tree.map(leaf_gram, a, b))
    if not products:
        raise ValueError("the tree has no floating-point leaf.")
    return functools.reduce(jnp.add, products)


def coefficients(block: Tree, vector: Tree) -> jax.Array:
    """Return the inner products [m] of a block's vectors with a vector."""
    return gram(block, jax.tree.map(lambda v: wide(v)[None], vector))[:, 0]


def combine(block: Tree, weights: jax.Array) -> Tree:
    """Return the vector sum_i w_i b_i for weights [m], the block B W for [m, p]."""

    def leaf_combine(b: jax.Array) -> jax.Array:
        w = weights.astype(b.dtype)
        return jnp.tensordot(w, b, (0, 0), precision=HIGHEST)

    return jax.tree.map(leaf_combine, block)


def rotate(block: Tree, matrix: jax.Array) -> Tree:
    """Return the block B W for a square W, slice by slice: in place where XLA can."""

    def rotate_leaf(b: jax.Array) -> jax.Array:
        w = matrix.astype(b.dtype)
        axis, num_slices = _slicing(b.shape)
        if num_slices == 1:
            return jnp.tensordot(w, b, (0, 0), precision=HIGHEST)

        def rotate_slice(i: Any, view: jax.Array) -> jax.Array:
            part = jax.lax.dynamic_index_in_dim(view, i, axis + 1, keepdims=False)
            part = jnp.tensordot(w, part, (0, 0), precision=HIGHEST)
            return jax.lax.dynamic_update_index_in_dim(view, part, i, axis + 1)

        view = _split(b, axis, num_slices)
        return jax.lax.fori_loop(0, num_slices, rotate_slice, view).reshape(b.shape)

    return jax.tree.map(rotate_leaf, block)


def _slicing(shape: tuple[int, ...]) -> tuple[int, int]:
    """Choose an axis (not the first) and a number of slices, at most 8.

    One for what is small: each loop costs compile time.
    """
    if math.prod(shape) < _SLICED_FROM:
        return 0, 1
    divisors = [_largest_divisor(length) for length in shape[1:]]
    num_slices = max(divisors, default=1)
    return (1 + divisors.index(num_slices) if divisors else 0), num_slices


def _split(b: jax.Array, axis: int, num_slices: int) -> jax.Array:
    """Split an axis into (entries, slices): slice i is index i of the second one.

    Slices take every c-th entry, so that where the axis is sharded each device has its
    part of each slice.
    """
    entries = b.shape[axis] // num_slices
    return b.reshape(*b.shape[:axis], entries, num_slices, *b.shape[axis + 1 :])


def _largest_divisor(length: int) -> int:
    """Return the largest divisor of `length` that is at most 8."""
    return max(d for d in range(1, 9) if length % d == 0) if length else 1


def orthogonalize(vector: Tree, block: Tree) -> tuple[Tree, jax.Array]:
    """Remove a vector's part in an orthonormal block (zero vectors in it are ignored).

    Classical Gram-Schmidt in two passes, and up to two more while the vector shrinks: a
    pass leaves an error of about eps sqrt(n) |v| / |remainder|, so that two do not make
    a remainder at rounding level orthogonal.

    Returns:
      The remainder and the coefficients [m] of the removed part.
    """

    def unfinished(carry: tuple) -> jax.Array:
        _, _, length, last_length, num_passes = carry
        shrinks = (length < 0.5 * last_length) & (num_passes < 4)
        return (num_passes < 2) | shrinks

    def remove(carry: tuple) -> tuple:
        vector, total, length, _, num_passes = carry
        part = coefficients(block, vector)
        vector = axpy(-jnp.ones((), part.dtype), combine(block, part), vector)
        return vector, total + part, norm(vector), length, num_passes + 1

    vector = wide(vector)
    length = norm(vector)
    zeros = jnp.zeros(jax.tree.leaves(block)[0].shape[0], length.dtype)
    start = (vector, zeros, length, length, jnp.zeros((), jnp.int32))
    vector, total, *_ = jax.lax.while_loop(unfinished, remove, start)
    return vector, total


def orthonormalize(block: Tree) -> tuple[Tree, jax.Array]:
    """Return an orthonormal basis of a block's span, and its dimension r.

    Gram matrices only, twice, so that tall arrays are never gathered. Directions that
    are linearly dependent up to rounding are dropped: vectors r, r+1, ... are zero.
    """
    for _ in range(2):
        matrix = gram(block, block)
        lengths = jnp.sqrt(jnp.diagonal(matrix))
        inverse = jnp.where(lengths > 0, 1 / jnp.where(lengths > 0, lengths, 1), 0)
        values, vectors = jnp.linalg.eigh(inverse[:, None] * matrix * inverse[None, :])
        values, vectors = values[::-1], vectors[:, ::-1]
        cutoff = 10 * values.shape[0] * jnp.finfo(values.dtype).eps
        independent = values > cutoff
        roots = jnp.sqrt(jnp.where(independent, values, 1))
        block = combine(
            block,
            inverse[:, None] * vectors * jnp.where(independent, 1 / roots, 0)[None, :],
        )
    return block, jnp.sum(independent, dtype=jnp.int32)
