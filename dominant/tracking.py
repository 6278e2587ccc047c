"""Optax wrappers that own the eigenbasis and refresh it while training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dominant import pytrees
from dominant.curvature import Curvature
from dominant.curvature_transforms import domain
from dominant.eigenspace import eigenspace_steps, top_eigenspace
from dominant.policies import RefreshPolicy, TrackSubspaceState
from dominant.projections import require_unmasked
from dominant.subspace import Subspace, alignment, principal_angles


def track_subspace(
    inner: optax.GradientTransformation,
    curvature: Curvature,
    k: int,
    *,
    refresh: RefreshPolicy,
    tol: float = 1e-3,
    axis_name: Any = None,
    block_size: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Track the top-k eigenspace of a curvature and hand it to `inner` as `subspace=`.

    At a refresh the eigenspace is solved for at the pre-step params on
    `curvature_data`, warm-started from the basis in hand, until the tolerance holds
    (`top_eigenspace`). The refresh is a real branch: other steps pay no product.
    `inner` also gets `gradient=`, the raw incoming updates unless the caller passes
    one, and every other extra argument, `curvature_data` included, so trackers nest.

    Args:
      inner: any optax transformation, typically `chain(optimizer, bulk_project())`.
      curvature: e.g. `hessian(loss_fn)`; with `restrict`, of some leaves alone.
      k: dimension of the space.
      refresh: when, e.g. `every(50)`.
      tol: relative residual of each solve.
      axis_name: under `vmap(..., axis_name=...)`, e.g. over seeds: refresh all members
        when any is due, since a solve for one makes all wait.
      block_size: products that a solve takes at once, see `top_eigenspace`.

    Returns:
      A transformation whose `update(updates, state, params, *, curvature_data,
      active=None, **extra)` needs params and curvature_data. A loss without data takes
      `curvature_data=()`. `active`, a bool scalar, is for members of a vmap that have
      come to their end: where it is False nothing is due, a refresh that others need
      leaves the basis as it is, and it does not age.

    Raises (in update):
      ValueError: if params or curvature_data is missing, the updates are not shaped
        like the params, or k exceeds the number of parameters (in the block).
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> TrackSubspaceState:
        return _initial(inner.init(params), domain(curvature, params), k)

    def update(
        updates: Any,
        state: TrackSubspaceState,
        params: Any = None,
        *,
        curvature_data: Any = None,
        active: Any = None,
        **extra: Any,
    ) -> tuple[Any, TrackSubspaceState]:
        _check_arguments(updates, params, curvature_data)
        if extra.get("gradient") is None:
            extra["gradient"] = updates
        if active is not None:
            extra["active"] = active

        def solve(state: TrackSubspaceState) -> TrackSubspaceState:
            new = top_eigenspace(
                curvature(params, curvature_data),
                pytrees.row(state.subspace.basis, 0),
                k,
                key=_key(state),
                start=_start(state, tol, block_size),
                tol=tol,
                block_size=block_size,
            )
            refreshed = _refreshed(state, new, extra["gradient"], refresh)
            if active is None:
                return refreshed
            return jax.tree.map(lambda a, b: jnp.where(active, a, b), refreshed, state)

        due = _is_due(state, refresh)
        due = due if active is None else due & active
        if axis_name is not None:
            due = jax.lax.pmax(due.astype(jnp.int32), axis_name) > 0
        # No `cond`: its copy of the basis costs as much as several plain SGD steps on a
        # small MLP, and under vmap it becomes a select, with a solve at each step.
        state = pytrees.do_if(due, solve, state)
        updates, inner_state = inner.update(
            updates,
            state.inner_state,
            params,
            subspace=state.subspace,
            curvature_data=curvature_data,
            **{name: value for name, value in extra.items() if name != "subspace"},
        )
        age = jnp.int32(1) if active is None else jnp.asarray(active, jnp.int32)
        return updates, state._replace(
            inner_state=inner_state, steps_since_refresh=state.steps_since_refresh + age
        )

    return optax.GradientTransformationExtraArgs(init, update)


class TrackerSteps(NamedTuple):
    """A tracker in pieces, for curvature products from outside.

    All are pure functions and may be jitted; states are pytrees. One training step:

        if steps.due(state):
            search = steps.start(state)
            while not search.done:
                search, block = steps.propose(search)
                search = steps.absorb(search, products(params, block))
            state = steps.refreshed(state, search, gradient)
        updates, state = steps.update(gradient, state, params)

    init: `params -> state`, a `TrackSubspaceState`.
    due: `state -> bool`, whether a refresh comes before the next update.
    start: `state -> search`, warm-started from the basis in hand.
    propose, absorb: as in `EigenspaceSteps`.
    refreshed: `(state, search, gradient) -> state`, with the new subspace;
      `alignment_change` is measured on that gradient.
    update: `(updates, state, params, **extra) -> (updates, state)`, as that of
      `track_subspace`, without a product.
    """

    init: Callable[[Any], TrackSubspaceState]
    due: Callable[[TrackSubspaceState], jax.Array]
    start: Callable[[TrackSubspaceState], Any]
    propose: Callable[[Any], tuple[Any, Any]]
    absorb: Callable[[Any, Any], Any]
    refreshed: Callable[[TrackSubspaceState, Any, Any], TrackSubspaceState]
    update: Callable[..., tuple[Any, TrackSubspaceState]]


def tracker_steps(
    inner: optax.GradientTransformation,
    k: int,
    *,
    refresh: RefreshPolicy,
    tol: float = 1e-3,
    block_size: int = 1,
) -> TrackerSteps:
    """Return `track_subspace` in pieces, for data that do not fit on the device.

    Whoever calls takes the products, one pass over the data for a block of them; given
    the same ones, states and updates are those of `track_subspace`. The space is that
    of all parameters.

    Args:
      inner: any optax transformation, typically `chain(optimizer, bulk_project())`.
      k: dimension of the space.
      refresh: when, e.g. `every(50)`.
      tol: relative residual of each solve.
      block_size: vectors that are proposed at once. A block of k takes the fewest
        passes, one vector the fewest products.

    Raises:
      ValueError: if k < 1, or the block size is not in 1 .. k.
    """
    inner = optax.with_extra_args_support(inner)
    search_steps = eigenspace_steps(k, tol=tol, block_size=block_size)

    def start(state: TrackSubspaceState) -> Any:
        like = pytrees.row(state.subspace.basis, 0)
        basis = _start(state, tol, block_size)
        return search_steps.init(like, key=_key(state), start=basis)

    def refreshed(
        state: TrackSubspaceState, search: Any, gradient: Any
    ) -> TrackSubspaceState:
        return _refreshed(state, search_steps.finish(search), gradient, refresh)

    def update(
        updates: Any, state: TrackSubspaceState, params: Any = None, **extra: Any
    ) -> tuple[Any, TrackSubspaceState]:
        if extra.get("gradient") is None:
            extra["gradient"] = updates
        updates, inner_state = inner.update(
            updates, state.inner_state, params, subspace=state.subspace, **extra
        )
        return updates, state._replace(
            inner_state=inner_state, steps_since_refresh=state.steps_since_refresh + 1
        )

    return TrackerSteps(
        init=lambda params: _initial(inner.init(params), params, k),
        due=lambda state: _is_due(state, refresh),
        start=start,
        propose=search_steps.propose,
        absorb=search_steps.absorb,
        refreshed=refreshed,
        update=update,
    )


def _initial(inner_state: Any, vector: Any, k: int) -> TrackSubspaceState:
    """Return the state before the first update; every leaf is its own array."""

    def count() -> jax.Array:
        return jnp.zeros((), jnp.int32)

    return TrackSubspaceState(
        inner_state=inner_state,
        subspace=_no_subspace(vector, k),
        total_matvecs=count(),
        refreshes=count(),
        failed_refreshes=count(),
        steps_since_refresh=count(),
        interval=count(),
        angle=jnp.zeros((), jnp.float32),
        alignment_change=jnp.zeros((), jnp.float32),
    )


def _is_due(state: TrackSubspaceState, refresh: RefreshPolicy) -> jax.Array:
    return (state.refreshes == 0) | refresh.due(state)


def _key(state: TrackSubspaceState) -> jax.Array:
    """Return the key of a refresh, another one for each."""
    return jax.random.fold_in(jax.random.key(0), state.refreshes)


def _no_subspace(vector: Any, k: int) -> Subspace:
    dtype = pytrees.scalar_dtype(vector)
    return Subspace(
        eigenvalues=jnp.zeros(k, dtype),
        basis=pytrees.zero_block(vector, k),
        residuals=jnp.full(k, jnp.inf, dtype),
        next_eigenvalue=jnp.zeros((), dtype),
        next_residual=jnp.full((), jnp.inf, dtype),
        num_matvecs=jnp.zeros((), jnp.int32),
    )


def _start(state: TrackSubspaceState, tol: float, block_size: int) -> Subspace:
    """Choose what a refresh starts from, by how far the last one turned the basis.

    The old basis, if it is likely to pass the tolerance still: k products then do.
    Otherwise the sum of its vectors: the Krylov space of one vector contains higher
    powers of H than that of a block of k for the same number of products. But products
    of one vector cannot be taken several at once.
    """
    if block_size > 1:
        return state.subspace
    has_moved = (state.angle > tol) & (state.refreshes > 1)

    def choose(b: jax.Array) -> jax.Array:
        total = jnp.zeros_like(b).at[0].set(jnp.sum(b, axis=0))
        return jnp.where(has_moved, total, b)

    basis = jax.tree.map(choose, state.subspace.basis)
    return state.subspace._replace(basis=basis)


def _refreshed(
    state: TrackSubspaceState, new: Subspace, gradient: Any, refresh: RefreshPolicy
) -> TrackSubspaceState:
    """Take over a new subspace; keep the old one if the new one is not finite."""
    old = state.subspace
    failed = ~jnp.all(jnp.isfinite(new.eigenvalues) & jnp.isfinite(new.residuals))
    spent = new.num_matvecs
    new = jax.tree.map(
        lambda a, b: jnp.where(failed, a, b), old, new._replace(num_matvecs=spent)
    )
    angle = jnp.max(principal_angles(old, new)).astype(jnp.float32)
    change = alignment(gradient, new) - alignment(gradient, old)
    state = state._replace(
        subspace=new,
        total_matvecs=state.total_matvecs + spent,
        refreshes=state.refreshes + 1,
        failed_refreshes=state.failed_refreshes + failed.astype(jnp.int32),
        angle=jnp.where(failed, state.angle, angle),
        alignment_change=change.astype(jnp.float32),
    )
    return state._replace(
        interval=refresh.next_interval(state).astype(jnp.int32),
        steps_since_refresh=jnp.zeros((), jnp.int32),
    )


def _check_arguments(updates: Any, params: Any, curvature_data: Any) -> None:
    if params is None:
        raise ValueError(
            "track_subspace needs params: tx.update(updates, state, params)."
        )
    if curvature_data is None:
        raise ValueError(
            "track_subspace needs the extra argument `curvature_data`, the data on "
            "which the curvature is taken (() for a loss without data)."
        )
    require_unmasked(updates)
    pytrees.require_same_structure(updates, params, "the updates", "the params")
