"""The norms of mini-batch gradients' noise at a network's start: |g_B - g|.

g is the mean over many fresh examples. A run is one line, with all norms.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments import at_once
from experiments.tasks import Task, make_task

_AT_START = "start"


def run(
    config: ml_collections.ConfigDict, workdir: str, argv: Sequence[str] = ()
) -> dict[str, Any]:
    """Draw the norms of a config, and leave the records in `workdir`.

    Args:
      config: with the fields of configs/linear_attention/noise.py.
      workdir: the run's folder.
      argv: the command line, for the provenance.

    Returns:
      The final status, as in status.json.

    Raises:
      ForeignWorkdirError: if `workdir` holds another config's run; it stays untouched.
      ValueError: if the task has no fresh examples, or a field is out of range.
    """
    for field in ("batch_size", "num_batches", "num_of_mean"):
        if config[field] < 1:
            raise ValueError(f"{field} must be at least 1, got {config[field]}.")
    if config.steps or config.log_first or config.log_every != 1:
        raise ValueError("there is one line, at step 0: steps = 0, log_every = 1.")
    task = make_task(config.task)
    if task.sample is None:
        raise ValueError("the noise is that of fresh examples: set task.fresh.")
    return at_once.run(
        config, workdir, argv, {_AT_START: lambda: _metrics(config, task)}
    )


def _metrics(config: ml_collections.ConfigDict, task: Task) -> dict[str, np.ndarray]:
    of_params, of_mean, of_batches = jax.random.split(jax.random.key(config.seed), 3)
    params = task.init(of_params)
    norms, norm = jax.jit(
        lambda params, of_mean, of_batches: noise_norms(
            task,
            params,
            (of_mean, of_batches),
            (config.num_of_mean, config.num_batches),
            config.batch_size,
        )
    )(params, of_mean, of_batches)
    loss = task.loss_fn(params, task.train)
    return {
        "loss/full": np.asarray(loss)[None],
        "noise/norms": np.asarray(norms)[None],
        "noise/gradient_norm": np.asarray(norm)[None],
    }


def noise_norms(
    task: Task,
    params: Any,
    keys: tuple[jax.Array, jax.Array],
    counts: tuple[int, int],
    batch_size: int,
) -> tuple[jax.Array, jax.Array]:
    """Return |g_B - g| of many mini-batches, and |g|.

    Args:
      task: with fresh examples.
      params: where the gradients are taken.
      keys: of the batches whose mean is g, and of those that are compared with it.
      counts: how many of each.
      batch_size: their examples.
    """
    assert task.sample is not None
    sample = task.sample

    def gradient(key: jax.Array) -> Any:
        return jax.grad(task.loss_fn)(params, sample(key, batch_size))

    def add(total: Any, key: jax.Array) -> tuple[Any, None]:
        return optax.tree.add(total, gradient(key)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, zeros, jax.random.split(keys[0], counts[0]))
    mean = optax.tree.scale(1 / counts[0], total)

    def norm(key: jax.Array) -> jax.Array:
        return optax.tree.norm(optax.tree.sub(gradient(key), mean))

    norms = jax.lax.map(norm, jax.random.split(keys[1], counts[1]))
    return norms, optax.tree.norm(mean)
