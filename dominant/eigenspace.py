"""The top eigenspace of a symmetric operator, with a certificate for its gap.

One process does everything, a Krylov decomposition (see krylov.py) that starts from one
random vector, or from the k vectors of a warm start:

- *Search*: each step goes in the direction of the worst residual among the top k Ritz
  pairs. From a cold start that is the Lanczos process. A full decomposition is
  compressed to its leading Ritz vectors (thick restart, Wu and Simon 2000).
- *Probe*: once the top k have converged they are locked, and a fresh random vector
  outside them starts a Lanczos process for the operator deflated by the k found. It
  bounds lambda_{k+1} from above, and it finds eigenvectors which the first Krylov space
  did not contain (further copies of a repeated eigenvalue, a direction that a warm
  start missed): then the search starts again from the best k vectors known.

The bound is that of van Dorsselaer, Hochstenbach and van der Vorst (2000): after s
steps from a unit vector whose component along the eigenvector of lambda is gamma, the
Lanczos polynomial satisfies |p_s(lambda)| <= 1/|gamma|, and a random vector in
dimension d has |gamma| <= delta with a probability of at most delta sqrt(2 d / pi).
A thick restart is one with exact shifts (Morgan 1996): the next vector stays a
polynomial of the first, with the Ritz values left behind among its zeros, so that the
bound goes on to sharpen across restarts.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import krylov, pytrees
from dominant.curvature import Matvec
from dominant.krylov import Krylov, Rotation
from dominant.subspace import Subspace

FAILURE_PROBABILITY = 1e-4
"""The chance, over the probe's random start, that the bound on lambda_{k+1} fails."""


class EigenspaceSteps(NamedTuple):
    """The solver of `top_eigenspace` in pieces, for products from outside.

    All four are pure functions and may be jitted; a state is a pytree.

        state = steps.init(params)
        while not state.done:
            state, block = steps.propose(state)
            state = steps.absorb(state, products(block))
        subspace = steps.finish(state)

    init: `(like, *, key=None, start=None) -> state`, the arguments of `top_eigenspace`.
    propose: `state -> (state, block)`, a block of `block_size` vectors (a tree with a
      leading axis) whose products with H are wanted. Where fewer are wanted the last
      ones are zero, and their products are ignored.
    absorb: `(state, products) -> state`, products a block like the proposed one.
    finish: `state -> Subspace`, at any time.

    A state tells `done`; `probing`, that the top k have converged and what follows is
    for the certificate, so that whoever wants none may stop; and `num_matvecs`. Its
    other fields may change.
    """

    init: Callable[..., "_Search"]
    propose: Callable[["_Search"], tuple["_Search", Any]]
    absorb: Callable[["_Search", Any], "_Search"]
    finish: Callable[["_Search"], Subspace]


class _Problem(NamedTuple):
    """What stays fixed during a solve, all Python numbers."""

    k: int
    tol: float
    budget: int
    block_size: int


class _Search(NamedTuple):
    """The state between two products.

    krylov: the decomposition; while probing, its first k columns are locked.
    key: for the random directions.
    num_starts: int32 scalar, vectors of the warm start, processed before all else.
    num_proposed: int32 scalar, pending vectors whose products are awaited.
    norm: scalar, the largest |Ritz value| seen, an estimate of |H|.
    eigenvalues, residuals: [k], of the locked vectors.
    next_eigenvalue, next_upper: scalars, lower and upper bounds on lambda_{k+1}.
    log_remainders: scalar, the sum of the logarithms of the probe's remainders.
    roots, num_roots: [..] and int32 scalar, the Ritz values that the probe's
      restarts have left behind.
    probing, done: bool scalars.
    num_matvecs: int32 scalar.
    """

    krylov: Krylov
    key: jax.Array
    num_starts: jax.Array
    num_proposed: jax.Array
    norm: jax.Array
    eigenvalues: jax.Array
    residuals: jax.Array
    next_eigenvalue: jax.Array
    next_upper: jax.Array
    log_remainders: jax.Array
    roots: jax.Array
    num_roots: jax.Array
    probing: jax.Array
    done: jax.Array
    num_matvecs: jax.Array


class _Ritz(NamedTuple):
    """What `krylov.ritz` returns."""

    values: jax.Array
    vectors: jax.Array
    residuals: jax.Array


def top_eigenspace(
    matvec: Matvec,
    like: Any,
    k: int,
    *,
    key: jax.Array | None = None,
    start: Subspace | None = None,
    tol: float = 1e-3,
    max_matvecs: int | None = None,
    block_size: int = 1,
) -> Subspace:
    """Return the eigenpairs of the k algebraically largest eigenvalues, certified.

    A pair is converged when |H u - lambda u| <= max(tol |lambda|, 10 eps |H|), |H|
    estimated by the largest |Ritz value|. If the budget ends first, the best pairs so
    far are returned: `residuals` tells. Negative eigenvalues, however large, never
    count as top. Works under jit, vmap and scan; no product is taken twice.

    After convergence a few products more bound lambda_{k+1} from above; the bound fails
    with a probability of at most 1e-4 over the random start of that probe. The probe
    ends when at least a third of the gap at k is certified, or it has turned out that
    there is none, or lambda_{k+1} itself has converged and a certificate is far.

    Memory: max(2 k + 2, k + 12) columns (block_size - 1 more), the k vectors of the
    result, and about three vectors of workspace.

    Args:
      matvec: product with a symmetric operator H on trees shaped like `like`.
      like: a tree that gives shapes, dtypes and sharding, e.g. the params. Non-floating
        leaves take no part: there vectors are None.
      k: dimension of the space.
      key: for the random directions; None is `jax.random.key(0)`.
      start: a guess, e.g. the same space at earlier params, of any dimension (no more
        than its first k vectors are used); zero or dependent vectors are ignored.
      tol: relative residual.
      max_matvecs: hard budget of products; None is 20 k + 100.
      block_size: products taken at once, by vmap, where the solver has as many
        directions to offer (the vectors of a warm start, and what follows from them).
        1 needs the fewest products; more suit hardware that one product cannot fill.

    Raises:
      ValueError: if k is not between 1 and the number of parameters, the budget is
        below k, block_size is not between 1 and k, or the start is not shaped like
        `like`.
    """
    steps = eigenspace_steps(k, tol=tol, max_matvecs=max_matvecs, block_size=block_size)

    def products(block: Any) -> Any:
        if block_size > 1:
            return jax.vmap(matvec)(block)
        product = matvec(pytrees.row(block, 0))
        return jax.tree.map(lambda p: p[None], product)

    def step(search: _Search) -> _Search:
        search, block = steps.propose(search)
        return steps.absorb(search, products(block))

    search = steps.init(like, key=key, start=start)
    return steps.finish(jax.lax.while_loop(lambda s: ~s.done, step, search))


def eigenspace_steps(
    k: int,
    *,
    tol: float = 1e-3,
    max_matvecs: int | None = None,
    block_size: int = 1,
) -> EigenspaceSteps:
    """Return the steps of `top_eigenspace`, for products that come from outside.

    For example from a host loop that streams data which do not fit on the device: with
    block_size = k a warm start costs one pass over them, not k. The arguments are those
    of `top_eigenspace`.

    Raises:
      ValueError: as `top_eigenspace`, partly in `init`.
    """
    budget = 20 * k + 100 if max_matvecs is None else max_matvecs
    if budget < k:
        raise ValueError(f"max_matvecs must be at least k = {k}, got {max_matvecs}.")
    if not 1 <= block_size <= max(k, 1):
        raise ValueError(f"block_size must be between 1 and k = {k}, got {block_size}.")
    problem = _Problem(k, tol, budget, block_size)
    return EigenspaceSteps(
        init=functools.partial(_begin, problem),
        propose=functools.partial(_propose, problem),
        absorb=functools.partial(_absorb, problem),
        finish=functools.partial(_finish, problem),
    )


def _begin(
    problem: _Problem,
    like: Any,
    *,
    key: jax.Array | None = None,
    start: Subspace | None = None,
) -> _Search:
    k, vector = problem.k, pytrees.floating(like)
    num_parameters = pytrees.size(vector)
    if not 1 <= k <= num_parameters:
        raise ValueError(
            f"k must be between 1 and the number of parameters ({num_parameters}), "
            f"got {k}."
        )
    num_columns = max(2 * k + 2, k + 12) + problem.block_size - 1
    basis = krylov.empty(vector, min(num_parameters, num_columns))
    if start is not None:
        guess = jax.tree.map(lambda b: b[:k], start.basis)
        pytrees.require_same_structure(
            pytrees.row(guess, 0), vector, "the start's basis", "`like`"
        )
        basis = krylov.start_from(basis, guess)
    num_starts = basis.pending
    key = jax.random.key(0) if key is None else key
    if start is None and problem.block_size > 1:
        block = pytrees.zero_block(vector, problem.block_size)
        basis = krylov.start_from(basis, pytrees.random_normal(key, block))
    zeros = jnp.zeros_like(basis.dropped)[:k]
    return _Search(
        krylov=basis,
        key=key,
        num_starts=num_starts,
        num_proposed=jnp.zeros((), jnp.int32),
        norm=zeros[0],
        eigenvalues=zeros,
        residuals=zeros,
        next_eigenvalue=zeros[0] - jnp.inf,
        next_upper=zeros[0] + jnp.inf,
        log_remainders=jnp.zeros_like(zeros[0]),
        roots=jnp.zeros(problem.budget + num_columns, zeros.dtype),
        num_roots=jnp.zeros((), jnp.int32),
        probing=jnp.zeros((), bool),
        done=jnp.zeros((), bool),
        num_matvecs=jnp.zeros((), jnp.int32),
    )


def _propose(problem: _Problem, search: _Search) -> tuple[_Search, Any]:
    """Return the vectors whose products are wanted next."""
    key = jax.random.fold_in(search.key, search.num_matvecs)
    basis = krylov.ensure_pending(search.krylov, key)
    # The starting block is processed before anything is decided; the probe is Lanczos.
    unstarted = search.num_starts - basis.processed
    wanted = jnp.where(unstarted > 0, unstarted, basis.pending)
    wanted = jnp.where(search.probing, 1, wanted)
    wanted = jnp.minimum(wanted, problem.budget - search.num_matvecs)
    num_proposed = jnp.minimum(wanted, problem.block_size)
    search = search._replace(krylov=basis, num_proposed=num_proposed)
    return search, krylov.next_directions(basis, problem.block_size, num_proposed)


def _absorb(problem: _Problem, search: _Search, products: Any) -> _Search:
    """Take in the products with the proposed vectors; decide how to go on."""

    def extend(i: Any, carry: tuple[Krylov, jax.Array]) -> tuple[Krylov, jax.Array]:
        basis, finite = carry
        product = pytrees.row(products, i)
        basis, size = krylov.extend(basis, product, search.norm)
        return basis, finite & jnp.isfinite(size)

    extended = extend(0, (search.krylov, jnp.ones((), bool)))
    if problem.block_size > 1:
        extended = jax.lax.fori_loop(1, search.num_proposed, extend, extended)
    basis, finite = extended
    num_matvecs = search.num_matvecs + search.num_proposed
    search = search._replace(krylov=basis, num_matvecs=num_matvecs)

    # The judges see everything but the columns, which they would copy.
    num_parameters = krylov.num_parameters(basis)
    columns, basis = basis.columns, basis._replace(columns=None)

    def judge(search: _Search) -> tuple[_Search, Rotation]:
        # One eigendecomposition for both.
        low = jnp.where(search.probing, problem.k, 0)
        ritz = _Ritz(*krylov.ritz(search.krylov, low=low))
        return jax.lax.cond(
            search.probing,
            lambda s: _judge_probe(problem, s, ritz, num_parameters),
            lambda s: _judge_residuals(problem, s, ritz, num_parameters),
            search,
        )

    def wait(search: _Search) -> tuple[_Search, Rotation]:
        return search, krylov.no_rotation(search.krylov)

    started = basis.processed >= search.num_starts
    search = search._replace(krylov=basis)
    search, rotation = jax.lax.cond(started, judge, wait, search)
    columns = krylov.rotate(columns, rotation)
    spent = num_matvecs >= problem.budget
    return search._replace(
        krylov=search.krylov._replace(columns=columns),
        done=search.done | spent | ~finite,
    )


def _judge_residuals(
    problem: _Problem, search: _Search, ritz: _Ritz, num_parameters: int
) -> tuple[_Search, Rotation]:
    """Lock the top k if they have converged; else turn to the worst residual."""
    k, basis, (values, vectors, residuals) = problem.k, search.krylov, ritz
    m, j = basis.dropped.shape[0], basis.processed
    index = jnp.arange(m, dtype=jnp.int32)
    largest = jnp.max(jnp.where(index < j, jnp.abs(values), 0))
    search = search._replace(norm=jnp.maximum(search.norm, largest))
    threshold = _threshold(problem, search.norm, values)
    wanted = (index < k) & (index < j)
    converged = (j >= k) & jnp.all(jnp.where(wanted, residuals <= threshold, True))

    def lock(search: _Search) -> tuple[_Search, Rotation]:
        locked, rotation = krylov.compress(basis, vectors, k, keep_pending=False)
        search = search._replace(
            krylov=locked,
            eigenvalues=values[:k],
            residuals=residuals[:k],
            next_eigenvalue=jnp.where(j > k, values[min(k, m - 1)], -jnp.inf),
            log_remainders=jnp.zeros_like(search.log_remainders),
            num_roots=jnp.zeros((), jnp.int32),
            probing=jnp.ones((), bool),
            done=jnp.asarray(num_parameters == k),
        )
        return search, rotation

    def advance(search: _Search) -> tuple[_Search, Rotation]:
        excess = residuals / jnp.where(threshold > 0, threshold, 1)
        worst = jnp.argmax(jnp.where(wanted, excess, -1))
        turned, reflection = krylov.turn(basis, vectors[:, worst])
        if m == num_parameters:  # the columns hold the whole space
            return search._replace(krylov=turned), reflection
        room = m - problem.block_size - turned.pending
        kept = jnp.minimum((k + room) // 2, room)

        def restart(turned: Krylov) -> tuple[Krylov, Rotation]:
            shorter, rotation = krylov.compress(turned, vectors, kept, True)
            return shorter, rotation._replace(normal=reflection.normal)

        turned, rotation = jax.lax.cond(
            room < j, restart, lambda turned: (turned, reflection), turned
        )
        return search._replace(krylov=turned), rotation

    return jax.lax.cond(converged, lock, advance, search)


def _judge_probe(
    problem: _Problem, search: _Search, ritz: _Ritz, num_parameters: int
) -> tuple[_Search, Rotation]:
    """Bound lambda_{k+1} by the probe so far; end it, or go back to the search.

    `ritz` is that of the vectors beside the locked ones.
    """
    k, basis, (values, vectors, residuals) = problem.k, search.krylov, ritz
    m, j = basis.dropped.shape[0], basis.processed
    index = jnp.arange(m, dtype=jnp.int32)
    smallest = search.eigenvalues[k - 1]
    threshold = _threshold(problem, search.norm, smallest)
    # Beyond what the k-th pair itself may still be off by.
    margin = search.residuals[k - 1] + _threshold(problem, search.norm, 0)
    missed = values[0] > smallest + margin
    estimate = jnp.maximum(values[0], search.next_eigenvalue)
    wanted = estimate + (smallest - estimate) * (2 / 3)
    bound, progress, log_remainders = _upper_bound(
        problem, search, values, wanted, num_parameters
    )
    upper = jnp.minimum(jnp.maximum(bound, estimate), search.next_upper)
    certified = upper <= wanted
    no_gap = (estimate >= smallest - threshold) & (upper <= smallest + margin)
    everything = j == num_parameters
    found = residuals[0] <= _threshold(problem, search.norm, values[0])
    # Half of the way or more is done: then the rest costs no more than that has.
    hopeless = found & (search.num_roots > 0) & (progress < 0.5)
    answered = certified | no_gap | everything | hopeless
    # With too little left to start again, the budget ends the solve: unanswered.
    again = missed & (search.num_matvecs + k <= problem.budget)
    done = answered & ~missed
    search = search._replace(
        next_eigenvalue=estimate,
        next_upper=upper,
        log_remainders=log_remainders,
        done=done,
    )

    # The locked vectors, then the probe's own Ritz vectors.
    beside = jnp.where(
        index < k, jnp.eye(m, dtype=vectors.dtype), jnp.roll(vectors, k, axis=1)
    )

    def search_again(search: _Search) -> tuple[_Search, Rotation]:
        used = index < j
        rayleigh = jnp.where(
            index < k, jnp.diagonal(basis.projected), jnp.roll(values, k)
        )
        best = jnp.argsort(jnp.where(used, rayleigh, -jnp.inf), descending=True)
        reopened, rotation = krylov.reopen(basis, beside[:, best], k)
        search = search._replace(
            krylov=reopened,
            num_starts=jnp.full((), k, jnp.int32),
            next_upper=jnp.full_like(upper, jnp.inf),
            probing=jnp.zeros((), bool),
        )
        return search, rotation

    def restart(search: _Search) -> tuple[_Search, Rotation]:
        # The locked vectors stay, the probe is compressed to its own leading ones.
        kept = k + (m - k - 1) // 2
        shorter, rotation = krylov.compress(basis, beside, kept, keep_pending=True)
        # Beyond those left behind stand meaningless values, until the next restart.
        left_behind = jax.lax.dynamic_update_slice_in_dim(
            search.roots, values[kept - k : m - k], search.num_roots, 0
        )
        search = search._replace(
            krylov=shorter,
            roots=left_behind,
            num_roots=search.num_roots + (j - kept).astype(jnp.int32),
        )
        return search, rotation

    def go_on(search: _Search) -> tuple[_Search, Rotation]:
        return search, krylov.no_rotation(basis)

    full = (j + basis.pending >= m) & (m < num_parameters) & ~done
    action = jnp.where(again, 2, full.astype(jnp.int32))
    return jax.lax.switch(action, [go_on, restart, search_again], search)


def _upper_bound(
    problem: _Problem,
    search: _Search,
    values: jax.Array,
    wanted: jax.Array,
    num_parameters: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bound the deflated operator's largest eigenvalue by the probe's polynomial.

    The next vector is p(H) times the first, p with the Ritz values and the roots as its
    zeros and one over the product of all remainders in front, and it has norm 1. The
    bound is the smallest lambda of a grid above the largest Ritz value, that is above
    all zeros, at which p(lambda) exceeds 1/delta.

    Returns:
      The bound; how much of log(1/delta) is reached at `wanted`; and `log_remainders`
      with the latest remainder.
    """
    k, basis, largest = problem.k, search.krylov, values[0]
    dtype = largest.dtype
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    # 1/delta, for a random unit vector in the complement of the k locked ones.
    per_start = max(1.0, (2 * (num_parameters - k) / math.pi) ** 0.5)
    log_target = math.log(per_start / FAILURE_PROBABILITY)
    rounding = jnp.maximum(4 * eps * search.norm, tiny)
    # Geometric, from rounding level to 8 |H|.
    offsets = jnp.logspace(jnp.log10(eps) - 1, 0, 256, dtype=dtype)
    grid = largest + 8 * jnp.maximum(search.norm, tiny / eps) * offsets
    grid = jnp.append(grid, wanted)

    def log_distances(zeros: jax.Array, count: jax.Array) -> jax.Array:
        used = jnp.arange(len(zeros), dtype=jnp.int32)[:, None] < count
        distances = jnp.maximum(grid[None, :] - zeros[:, None], tiny)
        return jnp.sum(jnp.where(used, jnp.log(distances), 0), axis=0)

    log_p = log_distances(values, basis.processed - k)
    log_p += log_distances(search.roots, search.num_roots)
    remainder = basis.last_remainder
    log_p -= search.log_remainders + jnp.log(jnp.maximum(remainder, rounding))
    reached = (log_p >= log_target) & (grid > largest)
    bound = jnp.min(jnp.where(reached, grid, jnp.inf))
    progress = jnp.where(wanted > largest, log_p[-1] / log_target, 0)
    # Where the Krylov space ends, the next vector is drawn anew. Then the product of
    # both chances has to be small: another factor `per_start`.
    restarted = rounding * per_start
    log_remainder = jnp.log(jnp.where(remainder > rounding, remainder, restarted))
    # Once the whole space has been seen, nothing is left to bound.
    everything = basis.processed == num_parameters
    bound = jnp.where(everything, largest + 10 * eps * search.norm, bound)
    return bound, progress, search.log_remainders + log_remainder


def _finish(problem: _Problem, search: _Search) -> Subspace:
    """Read the subspace off the process, wherever it stopped."""
    k, basis, locked = problem.k, search.krylov, search.probing
    values, vectors, residuals = krylov.ritz(basis)
    identity = jnp.eye(vectors.shape[0], dtype=vectors.dtype)
    residuals = jnp.where(locked, search.residuals, residuals[:k])
    # The products' own rounding, and the basis', is part of any residual.
    rounding = 4 * jnp.finfo(residuals.dtype).eps * search.norm
    known = locked & jnp.isfinite(search.next_upper)
    estimate = jnp.where(
        locked, search.next_eigenvalue, values[min(k, len(values) - 1)]
    )
    error = jnp.where(known, search.next_upper - estimate, jnp.inf)
    if krylov.num_parameters(basis) == k:  # there is no next one
        estimate, error = jnp.full_like(error, -jnp.inf), jnp.zeros_like(error)
    weights = jnp.where(locked, identity, vectors)[:, :k]
    overlaps = krylov.matmul(pytrees.gram(basis.columns, basis.columns), weights)
    # One Newton-Schulz step towards (U^T U)^{-1/2} mends what restarts have cost.
    mended = 1.5 * identity[:k, :k] - 0.5 * krylov.matmul(weights.T, overlaps)
    return Subspace(
        # Non-finite products must show in every number that depends on them.
        eigenvalues=jnp.where(
            jnp.isfinite(residuals),
            jnp.where(locked, search.eigenvalues, values[:k]),
            jnp.nan,
        ),
        basis=pytrees.combine(basis.columns, krylov.matmul(weights, mended)),
        residuals=jnp.sqrt(residuals**2 + rounding**2),
        next_eigenvalue=estimate,
        next_residual=error,
        num_matvecs=search.num_matvecs,
    )


def _threshold(problem: _Problem, norm: jax.Array, values: Any) -> jax.Array:
    eps = jnp.finfo(norm.dtype).eps
    return jnp.maximum(problem.tol * jnp.abs(values), 10 * eps * norm)
