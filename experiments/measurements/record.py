"""What every measurement sees: one record of one training step."""

from typing import Any, NamedTuple

import jax
import ml_collections

import dominant
from experiments import optimizers
from experiments.tasks import Task

Metrics = dict[str, jax.Array]
"""Flat names, like "loss/full", to scalars or short vectors."""


class Record(NamedTuple):
    """One training step, taken *before* it: params, gradients, subspace fit together.

    step: int32, the steps taken before this one.
    key: for random probes, another one at each step.
    params: before the step.
    loss, gradient, scores: of the full training set, at params; scores are the task's
      others beside the loss, by name.
    batch_loss, batch_gradient: of the step's mini-batch, at params.
    updates: what the step adds to the params.
    learning_rate: of the step.
    tracker: the `TrackSubspaceState` after the step.
    average: the moving average of chi_k that decides the switch.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    loss: jax.Array
    gradient: Any
    scores: dict[str, jax.Array]
    batch_loss: jax.Array
    batch_gradient: Any
    updates: Any
    learning_rate: jax.Array
    tracker: dominant.TrackSubspaceState
    average: jax.Array

    @property
    def subspace(self) -> dominant.Subspace:
        """The one in use for the updates: the tracker's, or its leading vectors."""
        return optimizers.subspace_in_use(self.tracker)


class Setting(NamedTuple):
    """What a run's records have in common.

    task: at the record's model state. curvature: the Hessian of the training loss,
    taken on curvature_data; that may be None, as may test. train: all of the training
    examples that are in device memory.
    """

    config: ml_collections.ConfigDict
    task: Task
    curvature: dominant.Curvature
    curvature_data: Any
    train: Any
    test: Any
