"""What may change while a branch trains: the weights, the bulk's guard, k.

All three are off by default (docs/stability.md). Functions here take the whole config,
unless they say otherwise.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

import dominant
from experiments.optimizers.base import EDGES
from experiments.optimizers.fields import require, require_defaults
from experiments.optimizers.schedules import Rates


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a ramp, a guard or an adaptive k that cannot work."""
    projection = config.projection
    require(
        projection.ramp_steps >= 0,
        f"projection.ramp_steps must be at least 0, got {projection.ramp_steps}.",
    )
    if not projection.ramp_steps:
        ends = ("dom_end", "bulk_end")
        require_defaults(projection, "projection", ends, "ramp_steps = 0")
    require(
        projection.cap_bulk >= 0,
        f"projection.cap_bulk must be at least 0, got {projection.cap_bulk}.",
    )
    if projection.cap_bulk:
        _check_guard(config)
    require(
        not config.subspace.adaptive_k or config.subspace.k > 1,
        "subspace.adaptive_k chooses among 1 .. k: it needs subspace.k of 2 or more.",
    )


def _check_guard(config: ml_collections.ConfigDict) -> None:
    optimizer = config.optimizer
    require(
        optimizer.name in EDGES and not optimizer.sam_rho,
        "projection.cap_bulk needs an optimizer whose edge of stability the Hessian "
        f"tells, without SAM: one of {', '.join(sorted(EDGES))}; got "
        f"{optimizer.name!r} with sam_rho = {optimizer.sam_rho}.",
    )
    # Its own count starts at the switch, the schedule's with the run.
    require(
        optimizer.schedule == "constant",
        "projection.cap_bulk needs optimizer.schedule = 'constant', got "
        f"{optimizer.schedule!r}.",
    )
    require(
        config.projection.acts_on == "update",
        "projection.cap_bulk scales updates: it needs projection.acts_on = 'update'.",
    )
    curvature = config.subspace.curvature
    require(
        curvature not in ("layers", "random", "updates"),
        f"projection.cap_bulk reads eigenvalues: those of subspace.curvature = "
        f"{curvature!r} do not tell where an edge is.",
    )


def ramp(config: ml_collections.ConfigDict, start: Any, end: Any) -> Any:
    """Return a weight of the projection: `start`, or a schedule from there to `end`.

        start + (end - start) min(t / ramp_steps, 1)

    with t the updates since the switch. Numbers or traced scalars; without ramp_steps
    `end` is not read.
    """
    num_steps = config.projection.ramp_steps
    return optax.linear_schedule(start, end, num_steps) if num_steps else start


def guarded(
    config: ml_collections.ConfigDict, dom: Any, bulk: Any, rates: Rates
) -> optax.GradientTransformationExtraArgs:
    """Return the projection with weights (dom, bulk), capped if the config says so.

    Weights are numbers, traced scalars or schedules. Where they are (1, 1), as of the
    branch "plain", nothing is capped. The cap reads the learning rate.
    """
    projection = dominant.interpolate_project(dom, bulk)
    if not config.projection.cap_bulk:
        return projection
    optimizer = config.optimizer

    def rate(count: jax.Array) -> jax.Array:
        of_dom, of_bulk = (w(count) if callable(w) else w for w in (dom, bulk))
        is_plain = jnp.logical_and(of_dom == 1, of_bulk == 1)
        return jnp.where(is_plain, 0, rates.learning_rate * jnp.abs(of_bulk))

    edge = EDGES[optimizer.name](optimizer.momentum)
    fraction = config.projection.cap_bulk * edge / 2
    return optax.chain(projection, dominant.cap_bulk(rate, fraction=fraction))


def with_chosen_k(
    config: ml_collections.ConfigDict, inner: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Hand `inner` the leading vectors of the subspace if k is adaptive, else all."""
    return dominant.choose_k(inner) if config.subspace.adaptive_k else inner


def states_of(kind: type, tracker: dominant.TrackSubspaceState) -> list[Any]:
    """Return the states of one type inside a tracker's."""

    def is_one(state: Any) -> bool:
        return isinstance(state, kind)

    states = jax.tree.leaves(tracker.inner_state, is_leaf=is_one)
    return [state for state in states if is_one(state)]


def subspace_in_use(tracker: dominant.TrackSubspaceState) -> dominant.Subspace:
    """Return the subspace that the latest updates were projected with."""
    subspace = tracker.subspace
    for chosen in states_of(dominant.ChooseKState, tracker):
        subspace = dominant.leading(subspace, chosen.k)
    return subspace
