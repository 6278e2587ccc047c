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
    predict_fn: `(params, data) -> outputs` [N, C].
    output_loss_fn: `(outputs, data) -> scalar`, the mean over the examples.
    train, test: trees of device arrays, examples on the leading axis. The curvature is
      that of the loss on all of `train`.
    """

    init: Callable[[jax.Array], Any]
    loss_fn: Callable[[Any, Any], jax.Array]
    predict_fn: Callable[[Any, Any], Any]
    output_loss_fn: Callable[[Any, Any], jax.Array]
    train: Any
    test: Any

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
        train=jax.tree.map(jnp.asarray, splits.train),
        test=jax.tree.map(jnp.asarray, splits.test),
    )
