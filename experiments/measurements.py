"""What is measured: pure functions of one record, each a flat dict of arrays.

A record is taken *before* a step: params, gradients and subspace belong together. The
gradient of the full training loss is computed once and shared.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import dominant
from experiments.losses import accuracy
from experiments.tasks import Task

Metrics = dict[str, jax.Array]


class Record(NamedTuple):
    """One training step as the measurements see it.

    params: before the step.
    loss, gradient: of the full training set, at params.
    batch_loss, batch_gradient: of the step's mini-batch, at params.
    tracker: the `TrackSubspaceState` after the update; its subspace is the one that the
      update was projected with.
    average: the moving average of chi_k that decides the switch.
    """

    params: Any
    loss: jax.Array
    gradient: Any
    batch_loss: jax.Array
    batch_gradient: Any
    tracker: dominant.TrackSubspaceState
    average: jax.Array


def losses(record: Record, train: Any, task: Task) -> Metrics:
    """Mean loss over the full training set and the mini-batch; accuracy in [0, 1]."""
    return {
        "loss/full": record.loss,
        "loss/batch": record.batch_loss,
        "accuracy/full": accuracy(task.predict_fn(record.params, train), train),
    }


def alignments(record: Record) -> Metrics:
    """chi_k = |P_k g| / |g| of the full and the mini-batch gradient; its average.

    The error is a bound on that of the full gradient's chi_k due to the subspace's
    residuals, at the params of the solve.
    """
    subspace = record.tracker.subspace
    return {
        "alignment/gradient": dominant.alignment(record.gradient, subspace),
        "alignment/batch_gradient": dominant.alignment(record.batch_gradient, subspace),
        "alignment/error": dominant.alignment_error(record.gradient, subspace),
        "alignment/average": record.average,
    }


def certificate(record: Record) -> Metrics:
    """The subspace in use: eigenvalues, residuals |H u - lambda u|, gap, sine, age.

    The error bound is on the largest sine to the exact space at the params of the
    solve, steps_since_refresh before these. Of the latest refresh: the angle by which
    it turned the basis, and by how much that changed chi_k.
    """
    tracker = record.tracker
    subspace = tracker.subspace
    return {
        "subspace/eigenvalues": subspace.eigenvalues,
        "subspace/residuals": subspace.residuals,
        "subspace/next_eigenvalue": subspace.next_eigenvalue,
        "subspace/next_residual": subspace.next_residual,
        "subspace/error_bound": dominant.error_bound(subspace),
        "subspace/angle": tracker.angle,
        "subspace/alignment_change": tracker.alignment_change,
        "subspace/interval": tracker.interval,
        "subspace/steps_since_refresh": tracker.steps_since_refresh - 1,
    }


def cost(record: Record) -> Metrics:
    """Curvature products and refreshes so far, the warm-up's included."""
    tracker = record.tracker
    return {
        "cost/matvecs": tracker.total_matvecs,
        "cost/refreshes": tracker.refreshes,
        "cost/failed_refreshes": tracker.failed_refreshes,
    }


def measure(record: Record, train: Any, task: Task) -> Metrics:
    """Return all measurements of a record."""
    return {
        **losses(record, train, task),
        **alignments(record),
        **certificate(record),
        **cost(record),
    }


def spectrum(
    params: Any,
    subspace: dominant.Subspace,
    train: Any,
    curvature: dominant.Curvature,
    tol: float,
) -> Metrics:
    """Return the top 2k eigenvalues of the Hessian and their residuals.

    For a figure, not for a projection: at most 5 k products, no certificate. On the
    MNIST-5k MLP the eigenvalues then have relative errors of 1e-3; the residuals tell.
    """
    k = subspace.eigenvalues.shape[0]
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    matvec = curvature(params, train)
    top = dominant.top_eigenspace(
        matvec,
        params,
        min(2 * k, num_parameters),
        start=subspace,
        tol=tol,
        max_matvecs=5 * k,
    )
    return {
        "spectrum/eigenvalues": top.eigenvalues,
        "spectrum/residuals": top.residuals,
        "spectrum/matvecs": top.num_matvecs,
    }


def held_out(params: Any, test: Any, task: Task) -> Metrics:
    """Mean loss and accuracy on the test set."""
    outputs = task.predict_fn(params, test)
    return {
        "loss/test": jnp.asarray(task.output_loss_fn(outputs, test)),
        "accuracy/test": accuracy(outputs, test),
    }
