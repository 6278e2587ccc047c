"""When to recompute the eigenbasis: the tracker's state, and policies that read it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant.subspace import Subspace, error_bound

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
