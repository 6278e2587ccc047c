"""One pass over all examples of a data set in device memory, some at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.tasks import Task


def mean_over(function: Callable[[Any], Any], data: Any, at_once: int) -> Any:
    """Return sum_c (N_c / N) f(chunk c): f(data), for a mean over examples.

    Args:
      function: from data to a tree of floating-point arrays, each a mean over examples.
      data: a tree, N examples on the leading axis.
      at_once: examples a chunk, which is what bounds memory; need not divide N. 0: all.
    """
    num_examples = len(jax.tree.leaves(data)[0])
    if not 0 < at_once < num_examples:
        return function(data)
    num_whole, ragged = divmod(num_examples, at_once)

    def weighted(start: Any, length: int) -> Any:
        chunk = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, start, length), data
        )
        weight = length / num_examples
        return jax.tree.map(lambda y: y * jnp.asarray(weight, y.dtype), function(chunk))

    def add(i: Any, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, weighted(i * at_once, at_once))

    shapes = jax.eval_shape(lambda: weighted(0, at_once))
    total = jax.tree.map(lambda y: jnp.zeros(y.shape, y.dtype), shapes)
    total = jax.lax.fori_loop(0, num_whole, add, total)
    if ragged:
        last = weighted(num_examples - ragged, ragged)
        total = jax.tree.map(jnp.add, total, last)
    return total


def scores_and_gradient(task: Task, params: Any, data: Any) -> tuple[Any, Any]:
    """Return (the loss, other scores), as `Task.scores`, and the loss's gradient."""
    return jax.value_and_grad(task.scores, has_aux=True)(params, data)
