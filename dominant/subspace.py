"""A certified eigenspace, and the geometry of subspaces.

Symbols: U = [u_1 .. u_k] the orthonormal basis, P = U U^T the projector on its span.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import pytrees


class Subspace(NamedTuple):
    """The top k eigenpairs of a symmetric operator, with what is known of their error.

    eigenvalues: [k] Ritz values, largest algebraic first.
    basis: a block of k orthonormal vectors (a leaf may be None: not in the subspace).
    residuals: [k], |H u_i - lambda_i u_i| from products taken, in the eigenvalues'
    unit. next_eigenvalue: scalar, an estimate of lambda_{k+1} from below.
    next_residual: scalar, its error: lambda_{k+1} <= next_eigenvalue + next_residual;
      inf when unknown.
    num_matvecs: int32 scalar, the products spent.

    To hand over eigenvectors found otherwise, fill in residuals and next_residual with
    inf where they are not known: projections don't read them, `error_bound` does.
    """

    eigenvalues: jax.Array
    basis: Any
    residuals: jax.Array
    next_eigenvalue: jax.Array
    next_residual: jax.Array
    num_matvecs: jax.Array


def error_bound(subspace: Subspace) -> jax.Array:
    """Bound the largest sine between span(basis) and the exact top-k eigenspace.

    Davis and Kahan (1970), with each residual over its own gap:

        sin <= |s|_2 + floor,   s_i = |H u_i - lambda_i u_i| / (lambda_i - lambda_{k+1})

    where lambda_{k+1} is replaced by its upper bound next_eigenvalue + next_residual,
    and the floor of 8 sqrt(k) eps is for rounding. (With Q the projector off the exact
    space, (H - lambda_i) Q u_i = Q r_i and Q H <= lambda_{k+1} give |Q u_i| <= s_i.)
    It holds at the params of the solve, if the upper bound on lambda_{k+1} does (see
    `top_eigenspace` for how sure that is).

    Returns:
      A scalar; inf where the gap cannot be certified to be positive. Values of 1 or
      more say nothing, since a sine is at most 1.
    """
    return jnp.linalg.norm(_sines(subspace)) + _rounding_floor(subspace)


def _sines(subspace: Subspace) -> jax.Array:
    """Bound each basis vector's sine to the exact space, [k]; inf without a gap."""
    upper = subspace.next_eigenvalue + subspace.next_residual
    gaps = subspace.eigenvalues - upper
    certified = gaps > 0  # false for NaN
    return jnp.where(
        certified, subspace.residuals / jnp.where(certified, gaps, 1), jnp.inf
    )


def _rounding_floor(subspace: Subspace) -> float:
    k = subspace.eigenvalues.shape[0]
    return 8 * k**0.5 * float(jnp.finfo(subspace.residuals.dtype).eps)


def _restrict_to(tree: Any, subspace: Subspace) -> Any:
    """Return `tree` with None where the subspace has no leaf, in float32 or wider."""
    require_matching(tree, subspace)
    kept = jax.tree.map(
        lambda b, v: None if b is None else v,
        subspace.basis,
        tree,
        is_leaf=lambda b: b is None,
    )
    return pytrees.wide(kept)


def require_matching(tree: Any, subspace: Subspace) -> None:
    """Raise ValueError unless `tree` is shaped like the vectors of the subspace."""

    def check(path: Any, b: Any, leaf: Any) -> None:
        if b is not None and jnp.shape(leaf) != jnp.shape(b)[1:]:
            raise ValueError(
                f"the tree does not fit the subspace at {jax.tree_util.keystr(path)}: "
                f"got shape {jnp.shape(leaf)}, expected {jnp.shape(b)[1:]}."
            )

    try:
        jax.tree_util.tree_map_with_path(
            check, subspace.basis, tree, is_leaf=lambda b: b is None
        )
    except ValueError as error:
        if "does not fit the subspace" in str(error):
            raise
        raise ValueError(
            "the tree does not fit the subspace: got structure "
            f"{jax.tree.structure(tree)}, but the basis has "
            f"{jax.tree.structure(subspace.basis)}."
        ) from error


def project(tree: Any, subspace: Subspace) -> Any:
    """Return the dominant part U U^T v of a tree; zero where a basis leaf is None."""
    inside = _restrict_to(tree, subspace)
    weights = pytrees.coefficients(subspace.basis, inside)
    part = pytrees.combine(subspace.basis, weights)
    return jax.tree.map(
        lambda p, v: (
            jax.tree.map(jnp.zeros_like, v)
            if p is None
            else p.astype(jnp.result_type(v))
        ),
        part,
        tree,
        is_leaf=lambda p: p is None,
    )


def reject(tree: Any, subspace: Subspace) -> Any:
    """Return the bulk part v - U U^T v of a tree; v where a basis leaf is None."""
    return jax.tree.map(lambda v, p: v - p, tree, project(tree, subspace))


def alignment(tree: Any, subspace: Subspace) -> jax.Array:
    """Return chi_k = |U U^T v| / |v|, a ratio of norms in [0, 1]; 0 for v = 0.

    Its square is the ratio of energies that some papers plot instead. |v| is that of
    the whole tree, leaves included where the basis is None (see `restrict`); the ratio
    within the block is that of `domain(curvature, tree)`, which is None there.
    """
    floats = pytrees.wide(pytrees.floating(tree))
    dtype = pytrees.scalar_dtype(floats)
    # Scaled by the largest entry, so that the squares neither under- nor overflow.
    peaks = [
        jnp.max(jnp.abs(v)).astype(dtype) for v in jax.tree.leaves(floats) if v.size
    ]
    peak = jnp.max(jnp.stack(peaks))
    is_zero = peak == 0  # false for NaN, which has to show
    scale = jnp.where(is_zero, 1, peak)
    unit = jax.tree.map(lambda v: v / scale.astype(v.dtype), floats)
    length = pytrees.norm(unit)
    inside = pytrees.coefficients(subspace.basis, _restrict_to(unit, subspace))
    length_inside = jnp.linalg.norm(inside).astype(dtype)
    return jnp.where(is_zero, 0, length_inside / jnp.where(is_zero, 1, length))


def alignment_error(tree: Any, subspace: Subspace) -> jax.Array:
    """Bound |chi_k - exact chi_k|, chi_k = `alignment(tree, subspace)`.

    Never more than 1, and often small where `error_bound` is infinite: with a tiny gap
    at k the space is hardly defined, but only the last basis vectors are in doubt, and
    the tree may have little of them.

    For a unit vector v with coefficients a_i, x = P_k v and y = v - x, and with Q the
    projector off the exact space,

        |exact P v|^2 = |x|^2 - |Q x|^2 - 2 <Q x, y> + |exact P y|^2,

    where |Q x| <= sum_i |a_i| s_i and |exact P y| <= |s|_2 |y|; the s_i are those of
    `error_bound`, and at most 1. Holds at the params of the solve.

    Returns:
      A scalar in [0, 1].
    """
    weights = pytrees.coefficients(subspace.basis, _restrict_to(tree, subspace))
    length = pytrees.norm(pytrees.wide(pytrees.floating(tree)))
    weights = weights / jnp.where(length > 0, length, 1)
    chi = jnp.minimum(jnp.linalg.norm(weights), 1)
    sines = jnp.minimum(_sines(subspace) + _rounding_floor(subspace), 1)
    inside = jnp.minimum(jnp.sum(jnp.abs(weights) * sines), chi)  # |Q x|
    outside = jnp.sqrt((1 - chi) * (1 + chi))  # |y|
    gained = jnp.minimum(inside, outside)
    total_sine = jnp.minimum(jnp.linalg.norm(sines), 1)
    highest = chi**2 + gained * (2 * outside - gained) + (total_sine * outside) ** 2
    lowest = chi**2 - inside * (inside + 2 * outside)
    return jnp.maximum(
        jnp.sqrt(jnp.minimum(highest, 1)) - chi,
        chi - jnp.sqrt(jnp.maximum(lowest, 0)),
    )


def overlap(a: Subspace, b: Subspace) -> jax.Array:
    """Return |U_a^T U_b|_F^2 / k in [0, 1]; k/n in the mean for random subspaces."""
    _require_same_k(a, b)
    matrix = pytrees.gram(a.basis, b.basis)
    return jnp.sum(matrix**2) / matrix.shape[0]


def principal_angles(a: Subspace, b: Subspace) -> jax.Array:
    """Return the [k] principal angles between two k-dimensional subspaces, in radians.

    Largest first, as SciPy's `subspace_angles`. Small ones are accurate to eps, where
    the arc cosine of the overlaps would lose everything below sqrt(eps): they come from
    the sines, the singular values of (I - P_a) U_b (Bjorck and Golub 1973).
    """
    _require_same_k(a, b)
    cosines_matrix = pytrees.gram(a.basis, b.basis)
    cosines = jnp.linalg.svd(cosines_matrix, compute_uv=False)[::-1]
    inside = pytrees.combine(a.basis, cosines_matrix)
    outside = jax.tree.map(jnp.subtract, b.basis, inside)
    sines = jnp.sort(_graded_singular_values(outside))[::-1]
    return jnp.where(
        sines < 0.7,
        jnp.arcsin(jnp.minimum(sines, 1)),
        jnp.arccos(jnp.minimum(cosines, 1)),
    )


def _graded_singular_values(block: Any) -> jax.Array:
    """Singular values of a tall block from Gram matrices, small ones kept accurate.

    One eigendecomposition of a Gram matrix resolves singular values down to sqrt(eps)
    of the largest. Lengths measured on the rotated block are exact for those; the
    others are rotated once more among themselves, on their own scale.
    """
    dtype = pytrees.scalar_dtype(block)
    resolution = 30 * float(jnp.finfo(dtype).eps) ** 0.5
    k = jax.tree.leaves(block)[0].shape[0]
    lengths, resolved = jnp.zeros(k, dtype), jnp.zeros(k, bool)
    for _ in range(3):
        matrix = pytrees.gram(block, block)
        scale = jnp.max(jnp.where(resolved, 0, jnp.diagonal(matrix)))
        open_pair = ~resolved[:, None] & ~resolved[None, :]
        matrix = jnp.where(open_pair, matrix / jnp.where(scale > 0, scale, 1), 0)
        # Distinct negative values keep the resolved vectors as they are.
        apart = jnp.where(resolved, -1 - jnp.arange(k, dtype=dtype), 0)
        _, rotation = jnp.linalg.eigh(matrix + jnp.diag(apart))
        block = pytrees.combine(block, rotation)
        lengths = jnp.sqrt(jnp.diagonal(pytrees.gram(block, block)))
        resolved = lengths > resolution * jnp.sqrt(scale)
    return lengths


def _require_same_k(a: Subspace, b: Subspace) -> None:
    pytrees.require_same_structure(a.basis, b.basis, "one basis", "the other")
