"""The top eigenspace of a symmetric operator, and a certificate for its gap.

One process does everything. It keeps a *Krylov decomposition*

    H V = V T + Q B,        S = [V | Q] orthonormal,

V the processed vectors, Q the pending ones (the directions in which the products so far
stick out), T and B small. One step takes one pending direction q, spends one product on
it, and moves it into V; the part of H q outside S becomes pending. Ritz pairs
(theta, V y) of T have residual |B y|: no product is taken twice, and residuals follow
from the products taken.

- A cold start is one random pending vector: the process is then Lanczos.
- A warm start has k pending vectors. Once they are processed, each step goes in the
  direction of the worst residual.
- When V is full, it is compressed to its leading Ritz vectors (thick restart, Wu and
  Simon 2000); Q stays.
- When the top k have converged, they are locked and a *probe* starts: a fresh random
  vector outside them, from which the same process is Lanczos for the operator deflated
  by the k found. It bounds lambda_{k+1} from above, and it finds eigenvectors which the
  Krylov space of the first start did not contain (further copies of a repeated
  eigenvalue, a direction that a warm start has missed): then the search goes on.

The bound is that of van Dorsselaer, Hochstenbach and van der Vorst (2000): after s
steps from a unit vector whose component along the eigenvector of lambda is gamma, the
Lanczos polynomial satisfies |p_s(lambda)| <= 1/|gamma|, and a random vector in
dimension d has |gamma| <= delta with a probability of at most delta sqrt(2 d / pi).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import pytrees
from dominant.curvature import Matvec
from dominant.subspace import Subspace

FAILURE_PROBABILITY = 1e-4
"""The chance, over the probe's random start, that the bound on lambda_{k+1} fails."""

_SPARE_VECTORS = 10


class _Problem(NamedTuple):
    """What stays fixed during a solve. Python numbers, but for the key."""

    k: int
    num_parameters: int
    num_columns: int
    tol: float
    key: jax.Array


class _Search(NamedTuple):
    """The process between two products. Column `processed`, if pending, comes next.

    columns: a block [num_columns]: processed, then pending vectors, then zeros.
    projected: [num_columns, num_columns], S^T H V; the columns >= processed are zero.
    processed, pending, num_starts: int32 scalars, vectors of each kind.
    dropped: [num_columns], norms of remainders that the decomposition has let go.
    last_remainder: scalar, norm of the latest product's part outside S.
    norm: scalar, the largest |Ritz value| seen, an estimate of |H|.
    eigenvalues, residuals: [k], of the locked vectors while probing.
    probing, done: bool scalars.
    next_eigenvalue, next_upper: scalars, lower and upper bounds on lambda_{k+1}.
    num_matvecs: int32 scalar.
    """

    columns: Any
    projected: jax.Array
    processed: jax.Array
    pending: jax.Array
    num_starts: jax.Array
    dropped: jax.Array
    last_remainder: jax.Array
    norm: jax.Array
    eigenvalues: jax.Array
    residuals: jax.Array
    probing: jax.Array
    done: jax.Array
    next_eigenvalue: jax.Array
    next_upper: jax.Array
    num_matvecs: jax.Array


def top_eigenspace(
    matvec: Matvec,
    like: Any,
    k: int,
    *,
    key: jax.Array | None = None,
    start: Subspace | None = None,
    tol: float = 1e-3,
    max_matvecs: int | None = None,
) -> Subspace:
    """Return the eigenpairs of the k algebraically largest eigenvalues, certified.

    A pair is converged when |H u - lambda u| <= max(tol |lambda|, 10 eps |H|), |H|
    estimated by the largest |Ritz value|. If the budget ends first, the best pairs so
    far are returned: `residuals` tells. Negative eigenvalues, however large, never
    count as top. Works under jit, vmap and scan; one product at a time, none taken
    twice.

    After convergence a few products more bound lambda_{k+1} from above; the bound fails
    with a probability of at most 1e-4 over the random start of that probe. The probe
    ends when the gap at k is certified to within a factor of two, when it turns out
    that it cannot be, or after about k + 9 products.

    Args:
      matvec: product with a symmetric operator H on trees shaped like `like`.
      like: a tree that gives shapes, dtypes and sharding, e.g. the params. Non-floating
        leaves take no part: there vectors are None.
      k: dimension of the space.
      key: for the random directions; None is `jax.random.key(0)`.
      start: a guess, e.g. the same space at earlier params; its zero or dependent
        vectors are ignored.
      tol: relative residual.
      max_matvecs: hard budget of products; None is 20 k + 100.

    Raises:
      ValueError: if k is not between 1 and the number of parameters, or the budget is
        below k.
    """
    problem, search = _begin(like, k, key, start, tol)
    budget = 20 * k + 100 if max_matvecs is None else max_matvecs
    if budget < k:
        raise ValueError(f"max_matvecs must be at least k = {k}, got {max_matvecs}.")

    def unfinished(search: _Search) -> jax.Array:
        return ~search.done & (search.num_matvecs < budget)

    def step(search: _Search) -> _Search:
        search = _ensure_pending(problem, search)
        direction = pytrees.row(search.columns, search.processed)
        return _absorb(problem, search, matvec(direction))

    return _finish(problem, jax.lax.while_loop(unfinished, step, search))


# --- the process ----------------------------------------------------------------------


def _begin(
    like: Any, k: int, key: jax.Array | None, start: Subspace | None, tol: float
) -> tuple[_Problem, _Search]:
    vector = pytrees.floating(like)
    n = pytrees.size(vector)
    if not 1 <= k <= n:
        raise ValueError(
            f"k must be between 1 and the number of parameters ({n}), got {k}."
        )
    dtype = pytrees.scalar_dtype(vector)
    m = min(n, 2 * k + _SPARE_VECTORS)
    problem = _Problem(k, n, m, tol, jax.random.key(0) if key is None else key)
    columns = pytrees.zero_block(vector, m)
    pending = jnp.zeros((), jnp.int32)
    if start is not None:
        guess, pending = pytrees.orthonormalize(_first_vectors(start.basis, columns, k))
        columns = jax.tree.map(
            lambda c, g: jax.lax.dynamic_update_slice_in_dim(
                c, g.astype(c.dtype), 0, 0
            ),
            columns,
            guess,
        )
    zero, zeros = jnp.zeros((), dtype), jnp.zeros(m, dtype)
    search = _Search(
        columns=columns,
        projected=jnp.zeros((m, m), dtype),
        processed=jnp.zeros((), jnp.int32),
        pending=pending,
        num_starts=pending,
        dropped=zeros,
        last_remainder=zero,
        norm=zero,
        eigenvalues=zeros[:k],
        residuals=zeros[:k],
        probing=jnp.zeros((), bool),
        done=jnp.zeros((), bool),
        next_eigenvalue=zero - jnp.inf,
        next_upper=zero + jnp.inf,
        num_matvecs=jnp.zeros((), jnp.int32),
    )
    return problem, search


def _first_vectors(basis: Any, columns: Any, k: int) -> Any:
    """Return the first k vectors (or fewer) of a warm start, checked against `like`."""
    guess = jax.tree.map(lambda b: b[:k], basis)
    pytrees.require_same_structure(
        pytrees.row(guess, 0), pytrees.row(columns, 0), "the start's basis", "`like`"
    )
    return guess


def _absorb(problem: _Problem, search: _Search, product: Any) -> _Search:
    """Extend the decomposition by the product with the next direction; plan ahead."""
    j, m = search.processed, problem.num_columns
    remainder, along = pytrees.orthogonalize(product, search.columns)
    beta = pytrees.norm(remainder)
    eps = jnp.finfo(beta.dtype).eps
    size = jnp.sqrt(jnp.sum(along**2) + beta**2)
    place = j + search.pending
    keep = (beta > 4 * eps * jnp.maximum(size, search.norm)) & (place < m)
    unit = pytrees.scaled(jnp.where(keep, 1 / jnp.where(keep, beta, 1), 0), remainder)
    index = jnp.arange(m, dtype=jnp.int32)
    columns = jax.lax.cond(
        keep,
        lambda: pytrees.with_row(search.columns, jnp.minimum(place, m - 1), unit),
        lambda: search.columns,
    )
    column = along + jnp.where((index == place) & keep, beta, 0)
    search = search._replace(
        columns=columns,
        projected=jnp.where((index == j)[None, :], column[:, None], search.projected),
        dropped=jnp.where((index == j) & ~keep, beta, search.dropped),
        last_remainder=beta,
        processed=j + 1,
        pending=search.pending - 1 + keep.astype(jnp.int32),
        num_matvecs=search.num_matvecs + 1,
    )
    # The starting block is processed in order before anything is decided on it.
    search = jax.lax.cond(
        search.processed < search.num_starts,
        lambda s: s,
        lambda s: _decide(problem, s),
        search,
    )
    return search._replace(done=search.done | ~jnp.isfinite(size))


def _decide(problem: _Problem, search: _Search) -> _Search:
    """After a product: what is known now, and where the next one goes."""
    search = jax.lax.cond(
        search.probing, lambda s: _judge_probe(problem, s), lambda s: s, search
    )
    return jax.lax.cond(
        search.probing | search.done,
        lambda s: s,
        lambda s: _judge_residuals(problem, s),
        search,
    )


def _judge_residuals(problem: _Problem, search: _Search) -> _Search:
    """Lock the top k if they have converged; else choose the next direction."""
    k, m = problem.k, problem.num_columns
    j = search.processed
    index = jnp.arange(m, dtype=jnp.int32)
    values, vectors, residuals = _ritz(search, jnp.zeros((), jnp.int32))
    magnitude = jnp.max(jnp.where(index < j, jnp.abs(values), 0))
    search = search._replace(norm=jnp.maximum(search.norm, magnitude))
    threshold = _threshold(problem, search.norm, values)
    wanted = (index < k) & (index < j)
    converged = (j >= k) & jnp.all(jnp.where(wanted, residuals <= threshold, True))

    def lock(search: _Search) -> _Search:
        compressed = _compress(search, vectors, jnp.int32(k), jnp.zeros((), bool))
        next_value = values[k] if k < m else values[0]
        return compressed._replace(
            dropped=jnp.where(index < k, residuals, 0),
            eigenvalues=values[:k],
            residuals=residuals[:k],
            probing=jnp.ones((), bool),
            done=jnp.asarray(problem.num_parameters == k),
            next_eigenvalue=jnp.where(j > k, next_value, -jnp.inf),
        )

    def advance(search: _Search) -> _Search:
        # The worst of the wanted pairs, relative to what it has to reach.
        excess = jnp.where(
            wanted, residuals / jnp.where(threshold > 0, threshold, 1), -1
        )
        weights = _matmul(search.projected, vectors[:, jnp.argmax(excess)])
        is_pending = (index >= j) & (index < j + search.pending)
        search = _turn(search, jnp.where(is_pending, weights, 0))
        if m == problem.num_parameters:
            return search
        room = m - 1 - search.pending
        kept = jnp.clip((k + room) // 2, min(k, m - 2), room)
        return jax.lax.cond(
            j + search.pending >= m,
            lambda s: _compress(s, vectors, kept, jnp.ones((), bool)),
            lambda s: s,
            search,
        )

    return jax.lax.cond(converged, lock, advance, search)


def _judge_probe(problem: _Problem, search: _Search) -> _Search:
    """Bound lambda_{k+1} by the probe so far; stop it, or go back to the search."""
    k, m = problem.k, problem.num_columns
    j = search.processed
    values, _, _ = _ritz(search, jnp.int32(k))
    smallest = search.eigenvalues[k - 1]
    threshold = _threshold(problem, search.norm, smallest)
    missed = values[0] > smallest + threshold
    estimate = jnp.maximum(values[0], search.next_eigenvalue)
    upper = jnp.maximum(_upper_bound(problem, search, values[0]), estimate)
    certified = upper - estimate <= (smallest - estimate) / 2
    hopeless = estimate >= smallest - threshold
    full = (j == problem.num_parameters) | (
        (j + search.pending >= m) & (m < problem.num_parameters)
    )
    done = ~missed & (certified | hopeless | full)
    return search._replace(
        probing=~missed,
        done=done,
        next_eigenvalue=jnp.where(done, estimate, search.next_eigenvalue),
        next_upper=jnp.where(done, upper, jnp.inf),
    )


def _ensure_pending(problem: _Problem, search: _Search) -> _Search:
    """Where nothing is pending, take a random direction outside all vectors so far."""

    def draw(search: _Search) -> _Search:
        key = jax.random.fold_in(problem.key, search.num_matvecs)
        direction = pytrees.random_normal(key, pytrees.row(search.columns, 0))
        direction, _ = pytrees.orthogonalize(direction, search.columns)
        direction = pytrees.scaled(1 / pytrees.norm(direction), direction)
        return search._replace(
            columns=pytrees.with_row(search.columns, search.processed, direction),
            pending=jnp.ones((), jnp.int32),
        )

    return jax.lax.cond(search.pending == 0, draw, lambda s: s, search)


def _finish(problem: _Problem, search: _Search) -> Subspace:
    """Read the subspace off the process, wherever it stopped."""
    k = problem.k
    values, vectors, residuals = _ritz(search, jnp.zeros((), jnp.int32))
    locked = search.probing
    identity = jnp.eye(problem.num_columns, dtype=vectors.dtype)
    weights = jnp.where(locked, identity, vectors)[:, :k]
    residuals = jnp.where(locked, search.residuals, residuals[:k])
    # The products' own rounding, and the basis', is part of any residual.
    rounding = 4 * jnp.finfo(residuals.dtype).eps * search.norm
    complete = jnp.asarray(problem.num_parameters == k)
    upper = jnp.where(complete, -jnp.inf, search.next_upper)
    estimate = jnp.where(complete, -jnp.inf, search.next_eigenvalue)
    known = search.done & jnp.isfinite(estimate)
    return Subspace(
        eigenvalues=jnp.where(locked, search.eigenvalues, values[:k]),
        basis=pytrees.combine(search.columns, weights),
        residuals=jnp.sqrt(residuals**2 + rounding**2),
        next_eigenvalue=estimate,
        next_residual=jnp.where(
            complete,
            0,
            jnp.where(known, upper - jnp.where(known, estimate, 0), jnp.inf),
        ),
        num_matvecs=search.num_matvecs,
    )


# --- small matrices -------------------------------------------------------------------


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=pytrees.HIGHEST)


def _threshold(problem: _Problem, norm: jax.Array, values: jax.Array) -> jax.Array:
    eps = jnp.finfo(norm.dtype).eps
    return jnp.maximum(problem.tol * jnp.abs(values), 10 * eps * norm)


def _ritz(search: _Search, low: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Ritz values (descending), vectors, residuals of columns low <= i < processed.

    The other entries sort last: their values mean nothing.
    """
    m = search.projected.shape[0]
    index = jnp.arange(m, dtype=jnp.int32)
    active = (index >= low) & (index < search.processed)
    matrix = jnp.where(active[:, None] & active[None, :], search.projected, 0)
    matrix = (matrix + matrix.T) / 2
    scale = jnp.linalg.norm(matrix)
    scale = jnp.where(scale > 0, scale, 1)
    matrix = matrix / scale + jnp.diag(jnp.where(active, 0, -2).astype(matrix.dtype))
    values, vectors = jnp.linalg.eigh(matrix)
    values, vectors = values[::-1] * scale, vectors[:, ::-1]
    is_pending = (index >= search.processed)[:, None]
    outside = jnp.where(is_pending, _matmul(search.projected, vectors), 0)
    outside = jnp.linalg.norm(outside, axis=0)
    let_go = _matmul(search.dropped, jnp.abs(vectors))
    return values, vectors, jnp.sqrt(outside**2 + let_go**2)


def _turn(search: _Search, weights: jax.Array) -> _Search:
    """Rotate the pending vectors so that the first is their combination by `weights`.

    A Householder reflection; with one vector pending there is nothing to turn.
    """
    j = search.processed
    index = jnp.arange(weights.shape[0], dtype=jnp.int32)
    length = jnp.linalg.norm(weights)
    first = jnp.where(index == j, 1, 0).astype(weights.dtype)
    unit = jnp.where(length > 0, weights / jnp.where(length > 0, length, 1), first)
    # The sign that avoids cancellation: the direction's own sign does not matter.
    normal = unit + jnp.where(unit[j] >= 0, 1, -1).astype(unit.dtype) * first
    factor = 2 / jnp.sum(normal**2)

    def reflect(search: _Search) -> _Search:
        along = pytrees.combine(search.columns, normal)

        def leaf(column: jax.Array, a: jax.Array) -> jax.Array:
            return column - jnp.tensordot((factor * normal).astype(column.dtype), a, 0)

        rows = jnp.outer(factor * normal, _matmul(normal, search.projected))
        return search._replace(
            columns=jax.tree.map(leaf, search.columns, along),
            projected=search.projected - rows,
        )

    return jax.lax.cond(search.pending > 1, reflect, lambda s: s, search)


def _compress(
    search: _Search, vectors: jax.Array, kept: jax.Array, keep_pending: jax.Array
) -> _Search:
    """Replace the processed vectors by their leading `kept` Ritz vectors."""
    m = vectors.shape[0]
    index = jnp.arange(m, dtype=jnp.int32)
    pending = jnp.where(keep_pending, search.pending, 0)
    to_ritz = jnp.where((index < kept)[None, :], vectors, 0)
    source = index[None, :] - kept + search.processed
    is_pending = (index >= kept) & (index < kept + pending)
    shift = (index[:, None] == source) & is_pending[None, :]
    rotation = to_ritz + shift.astype(vectors.dtype)
    return search._replace(
        columns=pytrees.combine(search.columns, rotation),
        projected=_matmul(rotation.T, _matmul(search.projected, to_ritz)),
        dropped=_matmul(search.dropped, jnp.abs(to_ritz)),
        processed=kept,
        pending=pending,
        num_starts=jnp.zeros((), jnp.int32),
    )


def _upper_bound(problem: _Problem, search: _Search, largest: jax.Array) -> jax.Array:
    """Bound the deflated operator's largest eigenvalue by its Lanczos polynomial.

    The smallest lambda of a grid above the largest Ritz value at which some p_i(lambda)
    exceeds 1/delta. By the three-term recurrence in ratios r_i = p_i / p_{i-1},
    r_i = (lambda - alpha_i - beta_{i-1} / r_{i-1}) / beta_i, so that nothing overflows.
    """
    k, m = problem.k, problem.num_columns
    dtype = largest.dtype
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    dimension = problem.num_parameters - k
    # 1 / delta, for a random unit vector in the complement of the k found.
    target = jnp.log(jnp.sqrt(2 * dimension / jnp.pi) / FAILURE_PROBABILITY).astype(
        dtype
    )
    floor = jnp.maximum(4 * eps * search.norm, tiny)
    scale = jnp.maximum(search.norm, tiny / eps)
    grid = largest + 8 * scale * jnp.logspace(jnp.log10(eps) - 1, 0, 256, dtype=dtype)
    alphas = jnp.diagonal(search.projected)
    below = jnp.concatenate([jnp.diagonal(search.projected, -1), jnp.zeros(1, dtype)])

    def step(carry: tuple, i: jax.Array) -> tuple[tuple, None]:
        log_p, best, coupling = carry
        last = i == search.processed - 1
        beta = jnp.where(last, search.last_remainder, jnp.abs(below[i]))
        # Where the Krylov space ended, the next vector was drawn anew, and the product
        # of both chances has to be small: a factor sqrt(2 d / pi) for each new start.
        restart = floor * jnp.maximum(1, jnp.sqrt(2 * dimension / jnp.pi)).astype(dtype)
        beta = jnp.where(beta > floor, beta, jnp.where(last, floor, restart))
        ratio = jnp.maximum((grid - alphas[i] - coupling) / beta, tiny)
        grown = log_p + jnp.log(ratio)
        inside = i < search.processed
        log_p = jnp.where(inside, grown, log_p)
        best = jnp.where(inside, jnp.maximum(best, grown), best)
        return (log_p, best, jnp.where(inside, beta / ratio, coupling)), None

    flat = jnp.zeros_like(grid)
    (_, best, _), _ = jax.lax.scan(
        step, (flat, flat, flat), jnp.arange(k, m, dtype=jnp.int32)
    )
    excluded = best >= target
    bound = jnp.min(jnp.where(excluded, grid, jnp.inf))
    # The whole space has been seen: nothing is left to bound.
    everything = search.processed == problem.num_parameters
    return jnp.where(everything, largest + 10 * eps * search.norm, bound)
