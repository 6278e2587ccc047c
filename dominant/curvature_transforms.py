"""Curvatures made from other curvatures: in chunks, narrower, preconditioned, a block.

A *curvature* is a function `(params, data) -> matvec`, see curvature.py. Each of these
takes one and returns one, and they compose in any order. They keep its `domain`, what
its vectors are shaped like.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from dominant import pytrees
from dominant.curvature import Curvature, Data, Matvec, Params, num_examples

Select = Callable[[Any, Any], bool]
BlockOf = Callable[[Any, Any], Hashable]


def in_batches(curvature: Curvature, batch_size: int) -> Curvature:
    """Return the same curvature, computed over chunks of `batch_size` examples.

    Exact for every curvature that is a mean over examples: C = sum_c (N_c / N) C_c, the
    ragged last chunk weighted by its own size. Memory is that of one chunk; each
    product linearizes each chunk anew.

    Args:
      curvature: a mean over the data's leading axis.
      batch_size: examples a chunk; need not divide N, may exceed it.

    Raises:
      ValueError: if batch_size < 1, or the data's leaves disagree on N.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")

    def batched(params: Params, data: Data) -> Matvec:
        count = num_examples(data)
        num_full, ragged = divmod(count, batch_size)

        def chunk_product(start: Any, length: int, v: Params) -> Params:
            chunk = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, start, length), data
            )
            weight = jnp.asarray(length / count, pytrees.scalar_dtype(v))
            return pytrees.scaled(weight, curvature(params, chunk)(v))

        def matvec(v: Params) -> Params:
            def add_chunk(i: Any, total: Params) -> Params:
                part = chunk_product(i * batch_size, batch_size, v)
                return jax.tree.map(jnp.add, total, part)

            total = jax.tree.map(jnp.zeros_like, v)
            if num_full:
                total = jax.lax.fori_loop(0, num_full, add_chunk, total)
            if ragged:
                part = chunk_product(num_full * batch_size, ragged, v)
                total = jax.tree.map(jnp.add, total, part)
            return total

        return matvec

    return _Curvature(batched, functools.partial(domain, curvature))


def in_dtype(curvature: Curvature, dtype: Any) -> Curvature:
    """Return the same curvature, computed in a narrower floating-point type.

    Params, data and vectors are rounded to `dtype` (float leaves only), and so is all
    that is computed from them: a product has relative errors around the type's rounding
    (bfloat16 4e-3), is linear only up to these, and needs half the memory. Residuals
    that a solver reports are then those of the rounded products.

    Args:
      curvature: any.
      dtype: e.g. `jnp.bfloat16`.
    """

    def rounded(tree: Any) -> Any:
        floats = jax.tree.map(lambda x: jnp.asarray(x, dtype), pytrees.floating(tree))
        return pytrees.merge(floats, tree)

    def narrow(params: Params, data: Data) -> Matvec:
        return curvature(rounded(params), rounded(data))

    return _Curvature(narrow, functools.partial(domain, curvature))


def preconditioned(curvature: Curvature, diagonal: Params) -> Curvature:
    """Return the curvature P^-1/2 C P^-1/2, P diagonal and positive.

    It is symmetric and has the eigenvalues of P^-1 C. An eigenvector u of it is not a
    direction in the params' own coordinates: with x = P^-1/2 u, P^-1 C x = lambda x, so
    x is the direction in which descent preconditioned by P, theta - lr P^-1 g, moves
    with the curvature lambda. That descent is stable on a quadratic where
    lambda_1 < 2 / lr. Adam's P is sqrt(nu_hat) + eps; at its edge of stability
    lambda_1 is 2 / lr for beta_1 = 0, and 2 (1 + beta_1) / ((1 - beta_1) lr) with
    momentum (Cohen et al. 2022, "Adaptive gradient methods at the edge of stability",
    arXiv:2207.14484).

    `diagonal` is held fixed. Where P changes while training, let it come with the data:
    `lambda params, data: preconditioned(curvature, data[1])(params, data[0])`.

    Args:
      curvature: C.
      diagonal: P, a tree shaped like the params. Leaves where the curvature's vectors
        have none (non-floating ones, those that `restrict` leaves out) are not read and
        may be None. An entry that is not positive makes products NaN.

    Raises (in the curvature):
      ValueError: if diagonal and params differ in structure or shapes.
    """

    def scaled(params: Params, data: Data) -> Matvec:
        matvec = curvature(params, data)
        root = jax.tree.map(jnp.sqrt, _diagonal_of(diagonal, domain(curvature, params)))

        def divide(v: Params) -> Params:
            return jax.tree.map(lambda x, r: x / r.astype(x.dtype), v, root)

        def product(v: Params) -> Params:
            pytrees.require_same_structure(v, root, "the vector", "the params")
            return divide(matvec(divide(v)))

        return product

    return _Curvature(scaled, functools.partial(domain, curvature))


def _diagonal_of(diagonal: Params, vector: Params) -> Params:
    """Return the diagonal's leaves where `vector` has one, in float32 or wider."""
    try:
        kept = _cut(diagonal, vector)
    except ValueError as error:
        raise ValueError(
            "the diagonal must have the tree structure of the params: got "
            f"{jax.tree.structure(diagonal)}, expected {jax.tree.structure(vector)}, "
            "where None may stand for anything."
        ) from error
    pytrees.require_same_structure(kept, vector, "the diagonal", "the params")
    return jax.tree.map(
        lambda p, v: jnp.asarray(p, pytrees.scalar_dtype(v)), kept, vector
    )


def restrict(curvature: Curvature, select: Select) -> Curvature:
    """Return one diagonal block of a curvature: that of the leaves selected.

    Vectors of the block are None at the leaves left out, so these cost no memory.
    `track_subspace` finds that out by itself; elsewhere, `domain(curvature, params)` is
    the tree to give as `like`. A product costs what one with the whole curvature does.

    Several blocks make a block-diagonal curvature: see docs/optax.md.

    Args:
      curvature: the whole; it may be restricted itself, then both have to select.
      select: `(path, leaf) -> bool`, asked for each floating-point leaf of the params,
        with the path of `jax.tree_util.tree_map_with_path`. Under jit the leaf is
        traced: decide by path, shape and dtype.

    Raises (in the curvature, in `domain`, and so in the tracker's `init`):
      ValueError: if nothing is selected.
    """

    def block_of(params: Params) -> Params:
        whole = domain(curvature, params)
        block = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if select(path, leaf) else None, whole
        )
        # Without any leaf there is nothing to complain about: optax's `map_params`
        # runs init on such a tree.
        if jax.tree.leaves(whole) and not jax.tree.leaves(block):
            paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(whole)]
            raise ValueError(
                "restrict needs a `select(path, leaf)` that is true for at least one "
                "of the floating-point leaves, got none of "
                f"{', '.join(map(jax.tree_util.keystr, paths))}."
            )
        return block

    def restricted(params: Params, data: Data) -> Matvec:
        block = block_of(params)
        matvec = curvature(params, data)
        outside = jax.tree.map(jnp.zeros_like, pytrees.wide(domain(curvature, params)))

        def product(v: Params) -> Params:
            pytrees.require_same_structure(
                v, block, "the vector", "the block, `domain(curvature, params)`"
            )
            return _cut(matvec(pytrees.merge(v, outside)), block)

        return product

    return _Curvature(restricted, block_of)


def row_of(curvature: Curvature, index: Any) -> Curvature:
    """Return the diagonal block of one index along the leading axis of all leaves.

    Where a layer's leaves are [K, ...], one row a neuron, it is one neuron's block;
    vectors are shaped like the rows. `jax.vmap` over the index takes the blocks of all
    neurons at once. Leaves without that axis are left out first: `row_of(restrict(C,
    select), i)`. A product costs what one with the whole curvature does.

    Args:
      curvature: the whole, or a block of it.
      index: an integer, traced or not. A traced one that is out of range is clamped.

    Raises (in the curvature and in `domain`):
      ValueError: if the leaves' leading axes differ, or one has none, or an index that
        is not traced is out of range.
    """

    def rows(params: Params) -> Params:
        whole = domain(curvature, params)
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(whole)}
        if len(lengths) > 1 or () in lengths:
            raise ValueError(
                "row_of needs leaves that share a leading axis, got leading sizes "
                f"{sorted(lengths)}; leave others out with `restrict`."
            )
        for (length,) in lengths:
            if isinstance(index, int) and not 0 <= index < length:
                raise ValueError(
                    f"row_of needs an index in 0 .. {length - 1}, got {index}."
                )
        return pytrees.row(whole, index)

    def of_row(params: Params, data: Data) -> Matvec:
        row = rows(params)
        matvec = curvature(params, data)
        zeros = jax.tree.map(jnp.zeros_like, pytrees.wide(domain(curvature, params)))

        def product(v: Params) -> Params:
            pytrees.require_same_structure(
                v, row, "the vector", "the row, `domain(curvature, params)`"
            )
            return pytrees.row(matvec(pytrees.with_row(zeros, index, v)), index)

        return product

    return _Curvature(of_row, rows)


def block_diagonal(curvature: Curvature, block_of: BlockOf) -> Curvature:
    """Return the curvature without what couples its blocks: blockdiag(C_1, .., C_m).

    Each eigenvector lies in one block, and the top k are the largest of all blocks
    taken together. A product costs m of the whole curvature, at the memory of one. For
    a top eigenspace of each block's own, take one `restrict` each (docs/optax.md).

    Args:
      curvature: the whole.
      block_of: `(path, leaf) -> label`, asked for each leaf of the curvature's domain,
        with the path of `jax.tree_util.tree_map_with_path`; leaves with equal labels
        are one block.
    """

    def decoupled(params: Params, data: Data) -> Matvec:
        numbers: dict[Hashable, int] = {}  # of the labels, as they come
        whole = domain(curvature, params)
        block = jax.tree_util.tree_map_with_path(
            lambda path, leaf: numbers.setdefault(block_of(path, leaf), len(numbers)),
            whole,
        )
        matvec = curvature(params, data)

        def product(v: Params) -> Params:
            pytrees.require_same_structure(v, whole, "the vector", "the params")

            def add_block(i: Any, total: Params) -> Params:
                part = jax.tree.map(lambda x, b: jnp.where(b == i, x, 0), v, block)
                return jax.tree.map(
                    lambda t, p, b: jnp.where(b == i, p, t), total, matvec(part), block
                )

            zeros = jax.tree.map(jnp.zeros_like, v)
            return jax.lax.fori_loop(0, len(numbers), add_block, zeros)

        return product

    return _Curvature(decoupled, functools.partial(domain, curvature))


def domain(curvature: Curvature, params: Params) -> Params:
    """Return what the curvature's vectors are shaped like: params, or a part of them.

    That is `params` with None at non-floating leaves and at those that `restrict`
    leaves out: the `like` of `top_eigenspace` and `spectral_density`. For any other
    tree shaped like the params, e.g. a gradient, it returns the block's part.

    A function that wraps a restricted curvature should keep its attribute `domain`, as
    `functools.wraps(curvature)` does.

    Args:
      curvature: any; one without the attribute `domain` acts on all floating leaves.
      params: the params, or a tree shaped like them.

    Raises:
      ValueError: if a restricted curvature selects nothing.
    """
    return getattr(curvature, "domain", pytrees.floating)(params)


@dataclasses.dataclass(frozen=True)
class _Curvature:
    """A curvature that knows the domain of its vectors."""

    function: Curvature
    domain: Callable[[Params], Params]

    def __call__(self, params: Params, data: Data) -> Matvec:
        return self.function(params, data)


def _cut(tree: Params, vector: Params) -> Params:
    """Return `tree` with None where `vector` has None."""
    return jax.tree.map(
        lambda v, leaf: None if v is None else leaf,
        vector,
        tree,
        is_leaf=lambda v: v is None,
    )
