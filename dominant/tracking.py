"""An optax wrapper that owns the eigenbasis and refreshes it while training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dominant import pytrees
from dominant.curvature import Curvature
from dominant.curvature_transforms import domain
from dominant.eigenspace import top_eigenspace
from dominant.projections import require_unmasked
from dominant.subspace import Subspace, alignment, error_bound, principal_angles

_SAFETY, _MAX_GROWTH = 0.95, 20.0


class TrackSubspaceState(NamedTuple):
    """State of `track_subspace`. All counts are int32 scalars.

    inner_state: the inner transformation's.
    subspace: the `Subspace` in use; zero basis before the first update.
    total_matvecs: curvature products spent so far.
    refreshes: solves so far, failed ones included.
    failed_refreshes: solves that met non-finite numbers; the old basis was kept.
    steps_since_refresh: updates since the basis was computed, 0 right after.
    interval: updates until the next refresh, by the policy's latest decision.
    angle: scalar, radians: the largest principal angle between the basis and the one
      before it, measured at the latest refresh (pi/2 at the first).
    alignment_change: scalar, chi_k of the gradient by the basis that the latest refresh
      brought less chi_k by the one before it: what the staleness did to chi_k.
    """

    inner_state: Any
    subspace: Subspace
    total_matvecs: jax.Array
    refreshes: jax.Array
    failed_refreshes: jax.Array
    steps_since_refresh: jax.Array
    interval: jax.Array
    angle: jax.Array
    alignment_change: jax.Array


class RefreshPolicy(NamedTuple):
    """When to recompute the basis: a pair of pure functions of the tracker's state.

    due: `state -> bool`, asked at each update (the first one always refreshes). In that
      state steps_since_refresh counts the steps that have used the basis.
    next_interval: `state -> int32`, asked after a refresh. The state holds the new
      subspace and angle, and still the old steps_since_refresh and interval.
    """

    due: Callable[[TrackSubspaceState], jax.Array]
    next_interval: Callable[[TrackSubspaceState], jax.Array]


def every(n: int) -> RefreshPolicy:
    """Refresh at every n-th update; n = 1 is the papers' exact method.

    Raises:
      ValueError: if n < 1.
    """
    if n < 1:
        raise ValueError(f"every(n) needs n >= 1, got {n}.")
    return RefreshPolicy(
        due=lambda state: state.steps_since_refresh >= state.interval,
        next_interval=lambda state: jnp.full_like(state.interval, n),
    )


def adaptive(
    max_angle: float = 0.1, min_interval: int = 1, max_interval: int = 1000
) -> RefreshPolicy:
    """Choose the interval so that the basis in use stays within `max_angle`.

    A step-size controller. At each refresh the error that the basis had reached is
    measured: the angle between it and the new basis, plus the new basis' own error, its
    residuals over their gaps (`error_bound`; without it, a basis that merely still
    passes the tolerance would look as if it stood still). The next interval is the one
    at which this sum would reach 0.95 max_angle, had the angle grown in proportion to
    the time; it grows by no more than a factor of 20. When the sum was too large the
    interval shrinks by the square of the excess, since the angle may have grown like
    the square root of the time, as in diffusion.

    Where the gap at k is so small that residuals over gap alone exceed max_angle, no
    interval can keep the promise: min_interval is used, and `error_bound` shows why.

    Args:
      max_angle: radians.
      min_interval: updates; also the first interval, when nothing is known yet.
      max_interval: updates.

    Raises:
      ValueError: unless max_angle > 0 and 1 <= min_interval <= max_interval.
    """
    if not max_angle > 0 or not 1 <= min_interval <= max_interval:
        raise ValueError(
            "adaptive needs max_angle > 0 and 1 <= min_interval <= max_interval, got "
            f"{max_angle}, {min_interval}, {max_interval}."
        )

    def next_interval(state: TrackSubspaceState) -> jax.Array:
        allowed = _SAFETY * max_angle - error_bound(state.subspace)
        ratio = allowed / jnp.maximum(state.angle, allowed / _MAX_GROWTH)
        ratio = jnp.where(ratio < 1, ratio**2, ratio)
        steps = jnp.floor(ratio * state.steps_since_refresh)
        known = (allowed > 0) & (state.refreshes > 1)  # false for NaN
        steps = jnp.where(known, steps, min_interval)
        return jnp.clip(steps, min_interval, max_interval).astype(jnp.int32)

    return RefreshPolicy(
        due=lambda state: state.steps_since_refresh >= state.interval,
        next_interval=next_interval,
    )


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
        def count() -> jax.Array:
            return jnp.zeros((), jnp.int32)

        return TrackSubspaceState(
            inner_state=inner.init(params),
            subspace=_no_subspace(domain(curvature, params), k),
            total_matvecs=count(),
            refreshes=count(),
            failed_refreshes=count(),
            steps_since_refresh=count(),
            interval=count(),
            angle=jnp.zeros((), jnp.float32),
            alignment_change=jnp.zeros((), jnp.float32),
        )

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
            matvec = curvature(params, curvature_data)
            new = top_eigenspace(
                matvec,
                pytrees.row(state.subspace.basis, 0),
                k,
                key=jax.random.fold_in(jax.random.key(0), state.refreshes),
                start=_start(state, tol, block_size),
                tol=tol,
                block_size=block_size,
            )
            refreshed = _refreshed(state, new, extra["gradient"], refresh)
            if active is None:
                return refreshed
            return jax.tree.map(lambda a, b: jnp.where(active, a, b), refreshed, state)

        due = (state.refreshes == 0) | refresh.due(state)
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


def _no_subspace(vector: Any, k: int) -> Subspace:
    """Return the state before the first solve; every leaf is its own array."""
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
