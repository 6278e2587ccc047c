"""The optimizer of a run: a base optimizer, the switch, the projection, the tracker.

What is projected is the update, weight decay and clipping included, while the base
optimizer's buffers see raw gradients (Song, Ahn and Yun, 2025, Sec. 2); with
projection.acts_on = "gradient" it is the gradient, before clipping and decay: another
algorithm. Functions here take the whole config, unless they say otherwise.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections
import optax

import dominant
from experiments.names import lookup
from experiments.optimizers import curvatures, stability
from experiments.optimizers.base import base_optimizer
from experiments.optimizers.curvatures import tracked_curvature
from experiments.optimizers.fields import require, require_defaults
from experiments.optimizers.schedules import Rates
from experiments.optimizers.schedules import rates as rates_of
from experiments.tasks import Task

WEIGHTS: Mapping[str, tuple[float, float] | None] = {
    "plain": (1.0, 1.0),
    "dom": (1.0, 0.0),
    "bulk": (0.0, 1.0),
    "interpolated": None,
}
"""Weights of the dominant and the bulk part; None: those of the config."""

ACTS_ON = ("gradient", "update")


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for an optimizer, projection or switch that cannot work.

    That is: unknown names, fields out of range, and fields that the choice made would
    ignore. Nothing is compiled.
    """
    base_optimizer(config.optimizer, config.steps)
    acts_on = config.projection.acts_on
    lookup("projection.acts_on", acts_on, dict.fromkeys(ACTS_ON))
    require(
        acts_on == "update" or not config.optimizer.sam_rho,
        "projection.acts_on = 'gradient' projects the gradient that SAM replaces: set "
        "optimizer.sam_rho = 0 or acts_on = 'update'.",
    )
    if "interpolated" not in config.modes:
        require_defaults(
            config.projection,
            "projection",
            ("dom", "bulk", "ramp_steps"),
            "modes without 'interpolated'",
        )
    if not switches_by_rule(config):
        require_defaults(
            config.switch, "switch", ("threshold", "min_steps"), "switch.step > 0"
        )
        require(
            config.switch.step < config.steps,
            f"switch.step must be below steps = {config.steps}, "
            f"got {config.switch.step}.",
        )
    curvatures.check(config)
    stability.check(config)
    k, block_size = config.subspace.k, config.subspace.block_size
    require(
        1 <= block_size <= max(k, 1),
        f"subspace.block_size must be between 1 and k = {k}, got {block_size}.",
    )


def projection_weights(
    config: ml_collections.ConfigDict, mode: str
) -> tuple[float, float]:
    """Return a mode's weights (dom, bulk): u -> dom P_k u + bulk (I - P_k) u.

    Raises:
      ValueError: if the mode is unknown.
    """
    weights = lookup("mode", mode, WEIGHTS)
    if weights is None:
        return config.projection.dom, config.projection.bulk
    return weights


def projection_ends(
    config: ml_collections.ConfigDict, mode: str
) -> tuple[float, float]:
    """Return what a mode's weights become: others if it is ramped, else the same."""
    if WEIGHTS[mode] is None and config.projection.ramp_steps:
        return config.projection.dom_end, config.projection.bulk_end
    return projection_weights(config, mode)


def refresh_policy(config: ml_collections.ConfigDict) -> dominant.RefreshPolicy:
    """Return the policy that the sub-config `subspace` asks for."""
    if config.refresh_every:
        return dominant.every(config.refresh_every)
    return dominant.adaptive(
        config.max_angle,
        min_interval=config.min_interval,
        max_interval=config.max_interval,
    )


def switches_by_rule(config: ml_collections.ConfigDict) -> bool:
    """Return whether the gradient's alignment decides the switch, not the step."""
    return config.switch.step <= 0


def projected_optimizer(
    config: ml_collections.ConfigDict, dom: Any, bulk: Any, rates: Rates | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return the config's optimizer, from the switch on weighed by (dom, bulk).

    Args:
      config: the whole config.
      dom: weight of the dominant part: a number, a traced scalar, or an optax schedule
        of the updates since the switch.
      bulk: weight of the bulk part, likewise. Neither changes the state's structure.
      rates: the learning-rate schedule's numbers, which may be traced too; None: the
        config's.

    Returns:
      A transformation whose update needs params and the extra arguments `subspace`,
      `gradient` (for the switch: of the full loss) and, with SAM, `grad_fn`.

    Raises:
      ValueError: as `check`.
    """
    check(config)
    rates = rates or rates_of(config.optimizer)
    base = base_optimizer(config.optimizer, config.steps, rates)
    if config.subspace.curvature == "updates":
        base = optax.chain(base, dominant.remember(config.subspace.window))
    projection = _after_switch(config, stability.guarded(config, dom, bulk, rates))
    if config.projection.acts_on == "gradient":
        return optax.chain(projection, base)
    return optax.chain(base, projection)


def _after_switch(
    config: ml_collections.ConfigDict, inner: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Apply `inner` from the config's `switch` on, by the papers' rule or at a step."""
    switch, by_rule = config.switch, switches_by_rule(config)
    return dominant.after_alignment(
        inner,
        # A negative threshold is always passed.
        threshold=switch.threshold if by_rule else -1.0,
        decay=switch.decay,
        min_steps=switch.min_steps if by_rule else switch.step,
    )


def tracked_optimizer(
    config: ml_collections.ConfigDict,
    task: Task,
    dom: Any,
    bulk: Any,
    rates: Rates | None = None,
    *,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return `projected_optimizer` in a tracker of the config's top eigenspace.

    The state's structure does not depend on the weights, so that every branch can start
    from one and the same state, and one compiled program serves all.

    Args:
      config: the whole config.
      task: gives the loss, whose curvature is tracked.
      dom: weight of the dominant part, as in `projected_optimizer`.
      bulk: weight of the bulk part, likewise.
      rates: as in `projected_optimizer`.
      axis_name: see `dominant.track_subspace`.

    Returns:
      A transformation with
      `update(batch_gradient, state, params, *, curvature_data, gradient, grad_fn)`:
      curvature_data is what `tracked_data` returns, gradient that of the full loss
      (read until the switch), and grad_fn is read with SAM only (`base.sam`).

    Raises:
      ValueError: as `check`, or if a field of `subspace` is out of range.
    """
    inner = projected_optimizer(config, dom, bulk, rates)
    return dominant.track_subspace(
        stability.with_chosen_k(config, inner),
        curvature=tracked_curvature(config, task),
        k=config.subspace.k,
        refresh=refresh_policy(config.subspace),
        tol=config.subspace.tol,
        axis_name=axis_name,
        block_size=config.subspace.block_size,
    )


def stepwise_optimizer(
    config: ml_collections.ConfigDict, dom: Any, bulk: Any, rates: Rates | None = None
) -> dominant.TrackerSteps:
    """Return `tracked_optimizer` in pieces, for products that come from outside.

    The state is the same; the arguments are, too.
    """
    inner = projected_optimizer(config, dom, bulk, rates)
    return dominant.tracker_steps(
        stability.with_chosen_k(config, inner),
        k=config.subspace.k,
        refresh=refresh_policy(config.subspace),
        tol=config.subspace.tol,
        block_size=config.subspace.block_size,
    )


def switch_state(
    opt_state: dominant.TrackSubspaceState,
) -> dominant.AfterAlignmentState:
    """Return the switch's state inside a `tracked_optimizer`'s state."""
    return stability.states_of(dominant.AfterAlignmentState, opt_state)[0]
