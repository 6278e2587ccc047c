"""The search for the top k Ritz pairs: a step in the direction of the worst residual.

The state of a solve, and what it does until the top k have converged: each step goes in
the direction of the worst residual among them. From a cold start that is the Lanczos
process. A full decomposition is compressed to its leading Ritz vectors (thick restart,
Wu and Simon 2000). What follows is in certificate.py.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import krylov, pytrees
from dominant.krylov import Krylov, Rotation
from dominant.subspace import Subspace


class Problem(NamedTuple):
    """What stays fixed during a solve, all Python numbers."""

    k: int
    tol: float
    budget: int
    block_size: int


class Search(NamedTuple):
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


class Ritz(NamedTuple):
    """What `krylov.ritz` returns."""

    values: jax.Array
    vectors: jax.Array
    residuals: jax.Array


def begin(
    problem: Problem,
    like: Any,
    *,
    key: jax.Array | None = None,
    start: Subspace | None = None,
) -> Search:
    """Return the state before the first product; raises as `top_eigenspace`."""
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
    return Search(
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


def propose(problem: Problem, search: Search) -> tuple[Search, Any]:
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


def judge_residuals(
    problem: Problem, search: Search, ritz: Ritz, num_parameters: int
) -> tuple[Search, Rotation]:
    """Lock the top k if they have converged; else turn to the worst residual."""
    k, basis, (values, vectors, residuals) = problem.k, search.krylov, ritz
    m, j = basis.dropped.shape[0], basis.processed
    index = jnp.arange(m, dtype=jnp.int32)
    largest = jnp.max(jnp.where(index < j, jnp.abs(values), 0))
    search = search._replace(norm=jnp.maximum(search.norm, largest))
    threshold = tolerance(problem, search.norm, values)
    wanted = (index < k) & (index < j)
    converged = (j >= k) & jnp.all(jnp.where(wanted, residuals <= threshold, True))

    def lock(search: Search) -> tuple[Search, Rotation]:
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

    def advance(search: Search) -> tuple[Search, Rotation]:
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


def tolerance(problem: Problem, norm: jax.Array, values: Any) -> jax.Array:
    """Return the residual up to which a pair counts as converged, for each value."""
    eps = jnp.finfo(norm.dtype).eps
    return jnp.maximum(problem.tol * jnp.abs(values), 10 * eps * norm)
