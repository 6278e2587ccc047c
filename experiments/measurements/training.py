"""Measurements that need no product: losses, alignments, steps, the tracker's state.

Symbols: theta the params before the step, Delta the step's update, g the gradient of
the full training loss L, P_k the projector on the tracked subspace.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

import dominant
from experiments import optimizers
from experiments.measurements.record import Metrics, Record, Setting
from experiments.passes import mean_over

_NO_DIRECTION = 1e-6
"""A part of the gradient shorter than this share of it gives no effective rate."""


def losses(record: Record, setting: Setting) -> Metrics:
    """L(theta) on the full training set and on the mini-batch; accuracy in [0, 1]."""
    del setting
    metrics = {"loss/full": record.loss, "loss/batch": record.batch_loss}
    return metrics | {f"{name}/full": value for name, value in record.scores.items()}


def held_out(record: Record, setting: Setting) -> Metrics:
    """Mean loss, and accuracy in [0, 1], over the test set."""
    loss, scores = mean_over(
        lambda data: setting.task.scores(record.params, data),
        setting.test,
        setting.config.examples_at_once,
    )
    scores = {f"{name}/test": value for name, value in scores.items()}
    return {"loss/test": loss} | scores


def alignments(record: Record, setting: Setting) -> Metrics:
    """chi_k(v) = |P_k v| / |v| of g, of the mini-batch gradient, of Delta; its average.

    The average is the moving one of chi_k(g) that decides the switch, if it does. The
    error bounds that of chi_k(g) due to the subspace's residuals, at the params of the
    solve.
    """
    subspace = record.subspace
    metrics = {
        "alignment/gradient": dominant.alignment(record.gradient, subspace),
        "alignment/batch_gradient": dominant.alignment(record.batch_gradient, subspace),
        "alignment/update": dominant.alignment(record.updates, subspace),
        "alignment/error": dominant.alignment_error(record.gradient, subspace),
    }
    if optimizers.switches_by_rule(setting.config):
        metrics["alignment/average"] = record.average
    return metrics


def certificate(record: Record, setting: Setting) -> Metrics:
    """The subspace: eigenvalues, residuals |H u - lambda u|, gap, sine, age.

    The error bound is on the largest sine to the exact space at the params of the
    solve, steps_since_refresh before these. Of the latest refresh: the angle by which
    it turned the basis, and by how much that changed chi_k(g).

    With subspace.adaptive_k all is about the vectors that are tracked, but the error
    bound about the first k of them, which are in use. With projection.cap_bulk: what
    the bulk part of Delta was scaled by, 1 before the switch.
    """
    tracker, config = record.tracker, setting.config
    subspace = tracker.subspace
    metrics = {
        "subspace/eigenvalues": subspace.eigenvalues,
        "subspace/residuals": subspace.residuals,
        "subspace/next_eigenvalue": subspace.next_eigenvalue,
        "subspace/next_residual": subspace.next_residual,
        "subspace/error_bound": dominant.error_bound(record.subspace),
        "subspace/angle": tracker.angle,
        "subspace/alignment_change": tracker.alignment_change,
        "subspace/interval": tracker.interval,
        "subspace/steps_since_refresh": tracker.steps_since_refresh - 1,
    }
    if config.subspace.adaptive_k:
        (chosen,) = optimizers.states_of(dominant.ChooseKState, tracker)
        metrics["subspace/k"] = chosen.k
    if config.projection.cap_bulk:
        (guard,) = optimizers.states_of(dominant.CapBulkState, tracker)
        metrics["projection/scale"] = guard.scale
    return metrics


def cost(record: Record, setting: Setting) -> Metrics:
    """The tracker's products and refreshes so far, the warm-up's included.

    With optimizer.skip_not_finite also the steps that were left out.
    """
    tracker = record.tracker
    metrics = {
        "cost/matvecs": tracker.total_matvecs,
        "cost/refreshes": tracker.refreshes,
        "cost/failed_refreshes": tracker.failed_refreshes,
    }
    if setting.config.optimizer.skip_not_finite:
        (skipping,) = optimizers.states_of(optax.ApplyIfFiniteState, tracker)
        metrics["cost/skipped_steps"] = skipping.total_notfinite
    return metrics


def sharpness(record: Record, setting: Setting) -> Metrics:
    """lambda_1 of the subspace in use, the edge of stability, and their ratio.

    The edge of the optimizer without its noise: 2/lr for gradient descent, 2 (1 +
    beta)/lr for heavy ball, 2 (1 + beta)/((1 + 2 beta) lr) for Nesterov (Cohen et al.
    2021, arXiv:2103.00065). Bulk-SGD's own is met by lambda_{k+1}, `next_eigenvalue`.
    """
    largest = record.subspace.eigenvalues[0]
    edge = stability_edge(setting.config.optimizer, record.learning_rate)
    return {
        "sharpness/largest": largest,
        "sharpness/edge": edge,
        "sharpness/over_edge": largest / edge,
    }


def stability_edge(
    config: ml_collections.ConfigDict, learning_rate: jax.Array
) -> jax.Array:
    """Return the largest curvature at which an optimizer is stable on a quadratic.

    NaN for an optimizer that has no edge in terms of the Hessian alone.
    """
    if config.name not in optimizers.EDGES or config.sam_rho:
        return jnp.full((), jnp.nan)
    return optimizers.EDGES[config.name](config.momentum) / learning_rate


def effective_rates(record: Record, setting: Setting) -> Metrics:
    """lr_dom = -<Delta, P_k g> / |P_k g|^2, and lr_bulk with I - P_k (Song et al.).

    Gradient descent has both equal to the learning rate; SGD in expectation. Over a
    stretch, take the ratio of the sums: numerators and denominators are there too. A
    part of g below 1e-6 |g| defines no rate: NaN.
    """
    del setting
    gradient, updates, subspace = record.gradient, record.updates, record.subspace
    norm = optax.tree.norm(gradient)
    parts = {
        "dom": dominant.project(gradient, subspace),
        "bulk": dominant.reject(gradient, subspace),
    }
    metrics: Metrics = {}
    for name, part in parts.items():
        numerator = -optax.tree.vdot(updates, part)
        denominator = optax.tree.norm(part, squared=True)
        known = denominator > (_NO_DIRECTION * norm) ** 2
        rate = numerator / jnp.where(known, denominator, 1)
        metrics |= {
            f"effective_rate/{name}": jnp.where(known, rate, jnp.nan),
            f"effective_rate/{name}_numerator": numerator,
            f"effective_rate/{name}_denominator": denominator,
        }
    return metrics


def drift(record: Record, setting: Setting, earlier: Any) -> tuple[Metrics, Any]:
    """Largest principal angle, radians, and overlap with the basis when last asked.

    overlap = |U^T V|_F^2 / k. Compares the bases in use, so that what is seen is the
    movement between refreshes. The first time there is none to compare with: NaN.
    """
    del setting
    subspace = record.tracker.subspace
    known = optax.tree.norm(earlier) > 0
    before = subspace._replace(basis=earlier)
    metrics = {
        "drift/angle": dominant.principal_angles(before, subspace)[0],
        "drift/overlap": dominant.overlap(before, subspace),
    }
    metrics = {name: jnp.where(known, x, jnp.nan) for name, x in metrics.items()}
    return metrics, subspace.basis


def no_basis(params: Any, setting: Setting) -> Any:
    """Return what `drift` compares with the first time: a basis of zeros."""
    k = setting.config.subspace.k

    def zeros(p: jax.Array) -> jax.Array:
        return jnp.zeros((k, *p.shape), jnp.promote_types(p.dtype, jnp.float32))

    return jax.tree.map(zeros, dominant.domain(setting.curvature, params))
