"""Tasks: what is trained on what, as pure functions and arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from experiments import data, losses, models


class Task(NamedTuple):
    """Everything that an experiment needs to know of its problem.

    init: `key -> params`.
    loss_fn: `(params, data) -> scalar`, the mean over the examples.
    predict_fn: `(params, data) -> outputs`, the examples on the leading axis.
    output_loss_fn: `(outputs, data) -> scalar`, the mean over the examples.
    train, test: trees of device arrays, examples on the leading axis; test may be None.
      The curvature is that of the loss on all of `train`.
    accuracy_fn: `(outputs, data) -> scalar` in [0, 1], or None.
    sample: `key -> data`, fresh examples for each step, or None: batches of `train`.

    A network that keeps statistics (BatchNorm) has them as its model state; all else
    has (). The functions above are those in evaluation mode, at the initial statistics.
    model_state: the initial one, the same for all seeds.
    bind: `model_state -> Task`, with the functions at these statistics.
    training_loss_fn: `(params, model_state, batch) -> (loss, model_state)`, in training
      mode, with the statistics of the batch.
    """

    init: Callable[[jax.Array], Any]
    loss_fn: Callable[[Any, Any], jax.Array]
    predict_fn: Callable[[Any, Any], Any]
    output_loss_fn: Callable[[Any, Any], jax.Array]
    train: Any
    test: Any
    accuracy_fn: Callable[[Any, Any], jax.Array] | None = None
    sample: Callable[[jax.Array], Any] | None = None
    model_state: Any = ()
    bind: Callable[[Any], "Task"] | None = None
    training_loss_fn: Callable[[Any, Any, Any], tuple[jax.Array, Any]] | None = None

    def at(self, model_state: Any) -> "Task":
        """Return the task with its functions at a model state, in evaluation mode."""
        return self if self.bind is None else self.bind(model_state)

    def training_loss(
        self, params: Any, model_state: Any, batch: Any
    ) -> tuple[jax.Array, Any]:
        """Return the loss that a step differentiates, and the next model state."""
        if self.training_loss_fn is None:
            return self.loss_fn(params, batch), model_state
        return self.training_loss_fn(params, model_state, batch)

    @property
    def num_train(self) -> int:
        """The number of training examples."""
        return jax.tree.leaves(self.train)[0].shape[0]


def classification(config: ml_collections.ConfigDict) -> Task:
    """Return an MLP on a labelled data set.

    Args:
      config: `dataset`, `num_train`, `hidden_sizes`, `activation`, `init`, `loss`; see
        configs/defaults.py.

    Raises:
      ValueError: if a name is unknown or num_train exceeds the data set.
      MissingDatasetError: if the data set is not on disk.
    """
    if config.loss not in losses.OUTPUT_LOSSES:
        known = ", ".join(sorted(losses.OUTPUT_LOSSES))
        raise ValueError(f"unknown loss {config.loss!r}; known ones: {known}")
    splits = data.load(config.dataset, num_train=config.num_train)
    num_inputs = splits.train["inputs"][0].size
    sizes = (num_inputs, *config.hidden_sizes, splits.num_classes)
    model = models.mlp(sizes, config.activation, config.init)
    output_loss_fn = losses.OUTPUT_LOSSES[config.loss]

    def predict_fn(params: Any, data: Any) -> jax.Array:
        return model.apply(params, data["inputs"])

    def loss_fn(params: Any, data: Any) -> jax.Array:
        return output_loss_fn(predict_fn(params, data), data)

    return Task(
        init=model.init,
        loss_fn=loss_fn,
        predict_fn=predict_fn,
        output_loss_fn=output_loss_fn,
        accuracy_fn=losses.accuracy,
        train=jax.tree.map(jnp.asarray, splits.train),
        test=jax.tree.map(jnp.asarray, splits.test),
    )
