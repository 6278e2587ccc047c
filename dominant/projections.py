"""Optax transformations that keep or remove the dominant part of what passes by.

They are stateless but for a step count, own no eigensolver, and read the extra argument
`subspace`, which `track_subspace` provides; whoever computes eigenvectors otherwise
passes it to `update`.

The order in a chain is meaning. `chain(adam(lr), bulk_project())` projects the
*update*: the optimizer's buffers see the raw gradients, and each step lies exactly in
the bulk. This is Bulk-Adam, the definition of Song, Ahn and Yun (2025), Sec. 2
("project the update").
`chain(bulk_project(), adam(lr))` projects the *gradient*: a different algorithm, whose
steps leave the bulk, since Adam rescales coordinates and momentum remembers old bases.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dominant import pytrees
from dominant.subspace import Subspace, alignment, project, require_matching

ScalarOrSchedule = float | jax.Array | Callable[[Any], Any]


class InterpolateProjectState(NamedTuple):
    """num_updates: int32 scalar, the updates so far; the schedules' argument."""

    num_updates: jax.Array


class AfterAlignmentState(NamedTuple):
    """State of `after_alignment`.

    inner_state: the inner transformation's, untouched until engaged.
    average: scalar, the moving average of chi_k; it stops when engaged.
    engaged: bool scalar.
    num_updates: int32 scalar, the updates so far.
    """

    inner_state: Any
    average: jax.Array
    engaged: jax.Array
    num_updates: jax.Array


def dom_project() -> optax.GradientTransformationExtraArgs:
    """Keep the dominant part: u -> P_k u (Dom-SGD after `optax.sgd`)."""
    return interpolate_project(1.0, 0.0)


def bulk_project() -> optax.GradientTransformationExtraArgs:
    """Remove the dominant part: u -> (I - P_k) u (Bulk-SGD after `optax.sgd`)."""
    return interpolate_project(0.0, 1.0)


def interpolate_project(
    dom: ScalarOrSchedule, bulk: ScalarOrSchedule
) -> optax.GradientTransformationExtraArgs:
    """Weigh both parts: u -> dom P_k u + bulk (I - P_k) u.

    (1, 1) leaves the updates unchanged, bit for bit; (1, 0) is `dom_project`, (0, 1)
    `bulk_project`. Leaves where the basis is None (those that `restrict` leaves out)
    count as bulk: `dom_project` sets them to zero.

    Args:
      dom: a number, or an optax schedule of the update count.
      bulk: likewise.

    Raises (in update):
      ValueError: if `subspace` is missing or does not fit the updates.
    """

    def init(params: Any) -> InterpolateProjectState:
        del params
        return InterpolateProjectState(jnp.zeros((), jnp.int32))

    def update(
        updates: Any,
        state: InterpolateProjectState,
        params: Any = None,
        *,
        subspace: Subspace | None = None,
        **extra: Any,
    ) -> tuple[Any, InterpolateProjectState]:
        del params, extra
        subspace = require_subspace(subspace, updates)
        dom_weight = dom(state.num_updates) if callable(dom) else dom
        bulk_weight = bulk(state.num_updates) if callable(bulk) else bulk

        def weigh(updates: Any) -> Any:
            def weigh_leaf(u: jax.Array, p: jax.Array) -> jax.Array:
                b = jnp.asarray(bulk_weight, u.dtype)
                return b * u + (jnp.asarray(dom_weight, u.dtype) - b) * p

            return jax.tree.map(weigh_leaf, updates, project(updates, subspace))

        # With weights (1, 1) a step should cost what it does without a projection.
        is_identity = (dom_weight == 1) & (bulk_weight == 1)
        if isinstance(is_identity, bool):
            updates = updates if is_identity else weigh(updates)
        else:
            updates = pytrees.do_if(~is_identity, weigh, updates)
        return updates, InterpolateProjectState(optax.safe_increment(state.num_updates))

    return optax.GradientTransformationExtraArgs(init, update)


def after_alignment(
    inner: optax.GradientTransformation,
    *,
    threshold: float = 0.95,
    decay: float = 0.9,
    min_steps: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Apply `inner` once the gradient has aligned: the papers' warm-up rule, one-way.

    The average e_t = decay e_{t-1} + (1 - decay) chi_k(gradient), e_0 = 0, is updated
    at each step. Updates pass unchanged until e_t > threshold and t >= min_steps; from
    that very update on, `inner` is applied for good. With e_0 = 0 and constant chi = c
    this is update ceil(log(1 - threshold / c) / log(decay)): 29 for c = 1. As e_t >= 0,
    a negative threshold is always passed: `inner` then acts from update min_steps on.

    Reads the extra arguments `subspace` and `gradient` (`track_subspace` provides both;
    give `gradient` the full-batch gradient where training is mini-batch).

    Raises:
      ValueError: unless threshold < 1, 0 <= decay < 1 and min_steps >= 0; in update, if
        `subspace` or `gradient` is missing.
    """
    if not 0 <= decay < 1 or not threshold < 1 or min_steps < 0:
        raise ValueError(
            "after_alignment needs threshold < 1, 0 <= decay < 1 and min_steps >= 0, "
            f"got threshold={threshold}, decay={decay}, min_steps={min_steps}."
        )
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> AfterAlignmentState:
        return AfterAlignmentState(
            inner_state=inner.init(params),
            average=jnp.zeros((), jnp.float32),
            engaged=jnp.zeros((), bool),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def update(
        updates: Any,
        state: AfterAlignmentState,
        params: Any = None,
        *,
        subspace: Subspace | None = None,
        gradient: Any = None,
        **extra: Any,
    ) -> tuple[Any, AfterAlignmentState]:
        subspace = require_subspace(subspace, updates)
        if gradient is None:
            raise ValueError(
                "after_alignment needs the extra argument `gradient`: wrap the chain "
                "in track_subspace, or pass gradient= to update."
            )

        def moved() -> jax.Array:
            chi = alignment(gradient, subspace).astype(jnp.float32)
            return decay * state.average + (1 - decay) * chi

        # Once engaged chi_k is needed no more, and costs as much as the projection.
        average = jax.lax.cond(state.engaged, lambda: state.average, moved)
        num_updates = optax.safe_increment(state.num_updates)
        engaged = state.engaged | ((average > threshold) & (num_updates >= min_steps))

        def apply(operand: tuple[Any, Any]) -> tuple[Any, Any]:
            updates, inner_state = operand
            return inner.update(
                updates,
                inner_state,
                params,
                subspace=subspace,
                gradient=gradient,
                **extra,
            )

        operand = (updates, state.inner_state)
        updates, inner_state = pytrees.do_if(engaged, apply, operand)
        return updates, AfterAlignmentState(inner_state, average, engaged, num_updates)

    return optax.GradientTransformationExtraArgs(init, update)


def with_extra_args_only(
    inner: optax.GradientTransformation, names: Sequence[str]
) -> optax.GradientTransformationExtraArgs:
    """Hand `inner` only the named extra arguments, and drop the others.

    For transformations that refuse extras which they don't know, such as
    `optax.contrib.sam(..., opaque_mode=True)`, which takes `grad_fn` alone:
    `chain(with_extra_args_only(sam, ["grad_fn"]), bulk_project())`.
    """
    allowed = frozenset(names)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        known = {name: value for name, value in extra.items() if name in allowed}
        return inner.update(updates, state, params, **known)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def require_subspace(subspace: Subspace | None, updates: Any) -> Subspace:
    """Return the subspace; raise ValueError if there is none, or it does not fit."""
    if subspace is None:
        raise ValueError(
            "a projection needs the extra argument `subspace`: wrap the whole chain in "
            "track_subspace, or pass subspace= to update. Some wrappers drop extra "
            "arguments: with optax.MultiSteps write track_subspace(chain("
            "MultiSteps(optimizer, n).gradient_transformation(), bulk_project()), ...)."
        )
    require_unmasked(updates)
    require_matching(updates, subspace)
    return subspace


def require_unmasked(updates: Any) -> None:
    """Raise ValueError if `optax.masked` or `partition` has cut leaves out."""

    def is_masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    if any(map(is_masked, jax.tree.leaves(updates, is_leaf=is_masked))):
        raise ValueError(
            "a projection inside optax.masked or optax.partition sees only some of the "
            "leaves. Mask the base optimizer instead: "
            "track_subspace(chain(masked(...), bulk_project()), ...). To project some "
            "leaves alone, restrict the curvature: track_subspace(chain(optimizer, "
            "bulk_project()), restrict(curvature, select), ...) lets the leaves that "
            "`select(path, leaf)` leaves out pass as they are."
        )
