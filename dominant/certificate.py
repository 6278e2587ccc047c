"""The certificate of an eigenspace: a probe that bounds lambda_{k+1} from above.

Once the top k have converged they are locked, and a fresh random vector outside them
starts a Lanczos process for the operator deflated by the k found. It bounds
lambda_{k+1}, and it finds eigenvectors which the first Krylov space did not contain
(further copies of a repeated eigenvalue, a direction that a warm start missed): then
the search starts again from the best k vectors known.

The bound is that of van Dorsselaer, Hochstenbach and van der Vorst (2000): after s
steps from a unit vector whose component along the eigenvector of lambda is gamma, the
Lanczos polynomial satisfies |p_s(lambda)| <= 1/|gamma|, and a random vector in
dimension d has |gamma| <= delta with a probability of at most delta sqrt(2 d / pi).
A thick restart is one with exact shifts (Morgan 1996): the next vector stays a
polynomial of the first, with the Ritz values left behind among its zeros, so that the
bound goes on to sharpen across restarts.
"""

import math

import jax
import jax.numpy as jnp

from dominant import krylov
from dominant.krylov import Rotation
from dominant.search import Problem, Ritz, Search, tolerance

FAILURE_PROBABILITY = 1e-4
"""The chance, over the probe's random start, that the bound on lambda_{k+1} fails."""


def judge_probe(
    problem: Problem, search: Search, ritz: Ritz, num_parameters: int
) -> tuple[Search, Rotation]:
    """Bound lambda_{k+1} by the probe so far; end it, or go back to the search.

    `ritz` is that of the vectors beside the locked ones.
    """
    k, basis, (values, vectors, residuals) = problem.k, search.krylov, ritz
    m, j = basis.dropped.shape[0], basis.processed
    index = jnp.arange(m, dtype=jnp.int32)
    smallest = search.eigenvalues[k - 1]
    threshold = tolerance(problem, search.norm, smallest)
    # Beyond what the k-th pair itself may still be off by.
    margin = search.residuals[k - 1] + tolerance(problem, search.norm, 0)
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
    found = residuals[0] <= tolerance(problem, search.norm, values[0])
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

    def search_again(search: Search) -> tuple[Search, Rotation]:
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

    def restart(search: Search) -> tuple[Search, Rotation]:
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

    def go_on(search: Search) -> tuple[Search, Rotation]:
        return search, krylov.no_rotation(basis)

    full = (j + basis.pending >= m) & (m < num_parameters) & ~done
    action = jnp.where(again, 2, full.astype(jnp.int32))
    return jax.lax.switch(action, [go_on, restart, search_again], search)


def _upper_bound(
    problem: Problem,
    search: Search,
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
