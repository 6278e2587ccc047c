"""The top eigenspace of a symmetric operator, with a certificate for its gap.

One process does everything, a Krylov decomposition (see krylov.py) that starts from one
random vector, or from the k vectors of a warm start:

- *Search* (search.py): each step goes in the direction of the worst residual among the
  top k Ritz pairs, until these have converged.
- *Probe* (certificate.py): a Lanczos process outside them bounds lambda_{k+1} from
  above. If it finds that an eigenvector was missed, the search starts again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import certificate, krylov, pytrees
from dominant.certificate import FAILURE_PROBABILITY as FAILURE_PROBABILITY
from dominant.curvature import Matvec
from dominant.krylov import Krylov, Rotation
from dominant.search import Problem, Ritz, Search, begin, judge_residuals, propose
from dominant.subspace import Subspace


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

    init: Callable[..., "Search"]
    propose: Callable[["Search"], tuple["Search", Any]]
    absorb: Callable[["Search", Any], "Search"]
    finish: Callable[["Search"], Subspace]


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

    def step(search: Search) -> Search:
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
    problem = Problem(k, tol, budget, block_size)
    return EigenspaceSteps(
        init=functools.partial(begin, problem),
        propose=functools.partial(propose, problem),
        absorb=functools.partial(_absorb, problem),
        finish=functools.partial(_finish, problem),
    )


def _absorb(problem: Problem, search: Search, products: Any) -> Search:
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

    def judge(search: Search) -> tuple[Search, Rotation]:
        # One eigendecomposition for both.
        low = jnp.where(search.probing, problem.k, 0)
        ritz = Ritz(*krylov.ritz(search.krylov, low=low))
        return jax.lax.cond(
            search.probing,
            lambda s: certificate.judge_probe(problem, s, ritz, num_parameters),
            lambda s: judge_residuals(problem, s, ritz, num_parameters),
            search,
        )

    def wait(search: Search) -> tuple[Search, Rotation]:
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


def _finish(problem: Problem, search: Search) -> Subspace:
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
