"""A guard at the bulk's edge of stability, and a dimension k that follows the gap.

Neither acts unless it is chained:

    track_subspace(
        choose_k(chain(sgd(eta), interpolate_project(1, 4), cap_bulk(4 * eta, 0.5))),
        curvature, k_max, refresh=every(10))

On a quadratic a step alpha eta on the dominant and gamma eta on the bulk part
multiplies the coordinates by 1 - alpha eta lambda_i, i <= k, and by
1 - gamma eta lambda_j, j > k: it is stable iff alpha eta lambda_1 < 2 and
gamma eta lambda_{k+1} < 2. So Bulk-SGD's own edge is 2 / lambda_{k+1}: it depends on k.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dominant import pytrees
from dominant.projections import ScalarOrSchedule, require_subspace
from dominant.subspace import Subspace, project

_SMALLEST = 1e-3
"""In gaps, eigenvalues below this part of lambda_1 count as this part of it."""


class CapBulkState(NamedTuple):
    """State of `cap_bulk`.

    num_updates: int32 scalar, the updates so far; the schedule's argument.
    scale: float32 scalar in (0, 1], what the latest update's bulk part was scaled by; 1
      before the first.
    """

    num_updates: jax.Array
    scale: jax.Array


class ChooseKState(NamedTuple):
    """State of `choose_k`. All but inner_state are int32 scalars.

    inner_state: the inner transformation's.
    k: the dimension in use at the latest update, 0 before the first.
    challenger: the dimension that is about to replace it, 0 for none.
    held: successive updates, the latest included, at which the challenger's gap was
      large enough.
    """

    inner_state: Any
    k: jax.Array
    challenger: jax.Array
    held: jax.Array


# --- the guard ------------------------------------------------------------------------


def cap_bulk(
    learning_rate: ScalarOrSchedule, *, fraction: float = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Scale the bulk part down to its edge of stability: u -> P_k u + s (I - P_k) u.

        s = min(1, fraction * 2 / (learning_rate * lambda_{k+1}))

    Stands in a chain behind the optimizer and its projection. Where s = 1 the updates
    pass bit for bit, and no projection is paid for.

    lambda_{k+1} is taken at its upper bound, next_eigenvalue + next_residual, so that
    nothing beyond the edge passes if the subspace is that of these params. But the
    solver certifies a third of the gap at k, no more: where the gap is wide, s may be
    several times smaller than it need be. Behind `choose_k` the bound is mostly sharp.
    Where next_residual is not finite the edge is not known, and next_eigenvalue is
    taken alone. As it is an estimate from below, what is scaled is beyond the edge, but
    what passes may be, too. A lambda_{k+1} that is not positive has no edge, nor has
    one that is not finite.

    A basis that is stale or off by an angle has a smaller edge, 2 / lambda_max(R H R),
    R = I - U U^T; a fraction below 1 leaves room for it. Leaves where the basis is None
    (those that `restrict` leaves out) pass unchanged: their curvature is not known.

    Args:
      learning_rate: the *effective* rate of the bulk part, a number or an optax
        schedule of the update count: 4 eta behind `sgd(eta), interpolate_project(1,
        4)`. Zero never caps. The count is that of this transformation's own updates:
        inside `after_alignment` it starts at the switch, where that of `sgd(schedule)`
        does not; behind it, the guard acts from the first update on.
      fraction: of gradient descent's edge, 2 / learning_rate. Heavy ball's is 1 + beta
        times that, Nesterov's (1 + beta) / (1 + 2 beta) times. For optimizers with a
        preconditioner, as Adam, the Hessian's eigenvalues tell no edge.

    Raises:
      ValueError: unless fraction > 0 and learning_rate >= 0; in update, if `subspace`
        is missing or does not fit the updates.
    """
    if isinstance(fraction, int | float) and not fraction > 0:
        raise ValueError(f"cap_bulk needs fraction > 0, got {fraction}.")
    if isinstance(learning_rate, int | float) and not learning_rate >= 0:
        raise ValueError(f"cap_bulk needs learning_rate >= 0, got {learning_rate}.")

    def init(params: Any) -> CapBulkState:
        del params
        return CapBulkState(jnp.zeros((), jnp.int32), jnp.ones((), jnp.float32))

    def update(
        updates: Any,
        state: CapBulkState,
        params: Any = None,
        *,
        subspace: Subspace | None = None,
        **extra: Any,
    ) -> tuple[Any, CapBulkState]:
        del params, extra
        subspace = require_subspace(subspace, updates)
        count = state.num_updates
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        relative = rate * _bulk_sharpness(subspace) / 2  # of the edge
        caps = (relative > fraction) & jnp.isfinite(relative)  # false for NaN
        scale = jnp.where(caps, fraction / jnp.where(caps, relative, 1), 1)

        def shrink(updates: Any) -> Any:
            def shrink_leaf(b: Any, u: jax.Array, p: jax.Array) -> jax.Array:
                return u if b is None else p + scale.astype(u.dtype) * (u - p)

            return jax.tree.map(
                shrink_leaf,
                subspace.basis,
                updates,
                project(updates, subspace),
                is_leaf=lambda b: b is None,
            )

        updates = pytrees.do_if(caps, shrink, updates)
        return updates, CapBulkState(
            optax.safe_increment(count), scale.astype(jnp.float32)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _bulk_sharpness(subspace: Subspace) -> jax.Array:
    """Return lambda_{k+1} by its upper bound, or by its estimate if there is none."""
    error = subspace.next_residual
    return subspace.next_eigenvalue + jnp.where(jnp.isfinite(error), error, 0)


# --- a dimension that follows the gap -------------------------------------------------


def leading(subspace: Subspace, k: int | jax.Array) -> Subspace:
    """Return the space of the first k basis vectors, in arrays of unchanged shape.

    The other vectors are zero, so that `project`, `reject` and `alignment` are those of
    the k-dimensional space. With k_max the dimension of `subspace` and r_i its
    residuals, the result has

        eigenvalues      lambda_1 .. lambda_k, then lambda_k repeated
        residuals        r_1 .. r_k, then 0
        next_eigenvalue  lambda_{k+1}, its Ritz value
        next_residual    max(lambda_{k+1}, upper) + |(r_{k+1} .. r_{k_max})|_2
                         - next_eigenvalue

    where upper = next_eigenvalue + next_residual of `subspace`. So the vectors that
    are not there add nothing to `error_bound`, which is that of the gap at k.
    (lambda_{k+1} of H is at most the largest eigenvalue of H on the complement of
    u_1 .. u_k, by Courant and Fischer. There H consists of Ritz values, of the rest,
    which `upper` bounds, and of what couples both: the residuals; Weyl.) For k = k_max
    it is `subspace` itself.

    `overlap` and `principal_angles` compare spaces of dimension k_max: they see the
    zero vectors as directions that the other space has not.

    Args:
      subspace: of Ritz vectors, the largest eigenvalues first.
      k: dimension; may be traced, and is then clipped to 1 .. k_max.

    Raises:
      ValueError: if k is a number that is not between 1 and k_max.
    """
    values, errors = subspace.eigenvalues, subspace.residuals
    k_max = values.shape[0]
    if isinstance(k, int) and not 1 <= k <= k_max:
        raise ValueError(
            f"k must be between 1 and the subspace's dimension {k_max}, got {k}."
        )
    k = jnp.clip(jnp.asarray(k, jnp.int32), 1, k_max)
    kept = jnp.arange(k_max, dtype=jnp.int32) < k
    is_whole = k == k_max

    def keep(b: jax.Array) -> jax.Array:
        return jnp.where(kept.reshape(-1, *[1] * (b.ndim - 1)), b, 0)

    following = values[jnp.minimum(k, k_max - 1)]
    upper = jnp.maximum(following, _upper_bound(subspace))
    upper += jnp.linalg.norm(jnp.where(kept, 0, errors))
    return Subspace(
        eigenvalues=jnp.where(kept, values, values[k - 1]),
        basis=jax.tree.map(keep, subspace.basis),
        residuals=jnp.where(kept, errors, 0),
        next_eigenvalue=jnp.where(is_whole, subspace.next_eigenvalue, following),
        next_residual=jnp.where(is_whole, subspace.next_residual, upper - following),
        num_matvecs=subspace.num_matvecs,
    )


def _upper_bound(subspace: Subspace) -> jax.Array:
    """Return next_eigenvalue + next_residual; inf if either is not known."""
    upper = subspace.next_eigenvalue + subspace.next_residual
    return jnp.where(jnp.isnan(upper), jnp.inf, upper)


def choose_k(
    inner: optax.GradientTransformation,
    *,
    k_min: int = 1,
    gain: float = 1.2,
    patience: int = 50,
) -> optax.GradientTransformationExtraArgs:
    """Hand `inner` the leading k vectors of the subspace, k where the gap is largest.

    With gap_i = lambda_i / lambda_{i+1}, k_min <= i <= k_max, the dimension of the
    subspace handed in: k is argmax gap_i at the first update. From then on it changes
    with hysteresis, so that it does not flap. An i with gap_i >= gain gap_k becomes
    the challenger (the largest gap first), and stays it as long as that holds; once it
    has held for `patience` successive updates, that one included, k is i. Updates are
    counted, not refreshes.

    lambda_{k_max+1} is taken at its upper bound, next_eigenvalue + next_residual; where
    that is not finite there is no gap at k_max. Eigenvalues below 1e-3 lambda_1, zero
    and negative ones among them, count as 1e-3 lambda_1, since near zero a ratio says
    nothing; without a positive eigenvalue all gaps are equal, and k stays, or is k_min.

    `inner` gets `subspace=leading(subspace, k)`, of unchanged shape: nothing is
    compiled anew when k changes. In a tracker, `track_subspace(choose_k(chain(
    optimizer, bulk_project())), curvature, k_max, ...)`, the basis that is kept, and
    the refresh policy, are those of k_max: `adaptive` may refresh for the sake of
    vectors beyond k.

    Raises:
      ValueError: unless k_min >= 1, gain >= 1 and patience >= 1; in update, if
        `subspace` is missing or has a dimension below k_min.
    """
    if k_min < 1 or not gain >= 1 or patience < 1:
        raise ValueError(
            "choose_k needs k_min >= 1, gain >= 1 and patience >= 1, got "
            f"k_min={k_min}, gain={gain}, patience={patience}."
        )
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> ChooseKState:
        return ChooseKState(
            inner_state=inner.init(params),
            k=jnp.zeros((), jnp.int32),
            challenger=jnp.zeros((), jnp.int32),
            held=jnp.zeros((), jnp.int32),
        )

    def update(
        updates: Any,
        state: ChooseKState,
        params: Any = None,
        *,
        subspace: Subspace | None = None,
        **extra: Any,
    ) -> tuple[Any, ChooseKState]:
        subspace = require_subspace(subspace, updates)
        gaps = _gaps(subspace, k_min)
        largest = jnp.argmax(gaps).astype(jnp.int32) + 1
        current = jnp.where(state.k == 0, largest, state.k)
        wanted = gain * gaps[current - 1]

        def passes(i: jax.Array) -> jax.Array:
            gap = gaps[i - 1]
            return (i > 0) & (i != current) & (gap > 0) & (gap >= wanted)

        stays = passes(state.challenger)
        challenger = jnp.where(stays, state.challenger, largest)
        held = jnp.where(stays, state.held, 0) + 1
        wins = passes(challenger) & (held >= patience)
        waits = passes(challenger) & ~wins
        k = jnp.where(wins, challenger, current)
        updates, inner_state = inner.update(
            updates,
            state.inner_state,
            params,
            subspace=leading(subspace, k),
            **extra,
        )
        return updates, ChooseKState(
            inner_state=inner_state,
            k=k,
            challenger=jnp.where(waits, challenger, 0),
            held=jnp.where(waits, held, 0),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _gaps(subspace: Subspace, k_min: int) -> jax.Array:
    """Return lambda_i / lambda_{i+1}, [k_max]; 0 if not known, -1 where i < k_min."""
    values, upper = subspace.eigenvalues, _upper_bound(subspace)
    k_max = values.shape[0]
    if k_min > k_max:
        raise ValueError(
            f"choose_k has k_min = {k_min}, but got a subspace of dimension {k_max}."
        )
    smallest = jnp.where(values[0] > 0, _SMALLEST * values[0], 1)
    following = jnp.append(values[1:], upper)
    gaps = jnp.maximum(values, smallest) / jnp.maximum(following, smallest)
    gaps = jnp.where(jnp.isfinite(following) & jnp.isfinite(gaps), gaps, 0)
    return jnp.where(jnp.arange(1, k_max + 1, dtype=jnp.int32) < k_min, -1, gaps)
