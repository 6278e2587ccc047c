"""Which curvature the dominant space is of, and on which examples it is taken.

Functions here take the whole config.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

import dominant
from experiments import blocks
from experiments.names import lookup
from experiments.optimizers.fields import require, require_defaults
from experiments.tasks import Task

DTYPES: Mapping[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def _hessian(config: ml_collections.ConfigDict, task: Task) -> dominant.Curvature:
    """H, of the training loss."""
    del config
    return dominant.hessian(task.loss_fn)


def _gauss_newton(config: ml_collections.ConfigDict, task: Task) -> dominant.Curvature:
    """G, of the network and the loss on its outputs; a ridge belongs to it."""
    curvature = dominant.gauss_newton(task.predict_fn, task.output_loss_fn)
    ridge = config.task.ridge
    if not ridge:
        return curvature

    def at(params: Any, data: Any) -> dominant.Matvec:
        matvec = curvature(params, data)
        return lambda v: optax.tree.add_scale(matvec(v), ridge, v)

    return at


def _functional_hessian(
    config: ml_collections.ConfigDict, task: Task
) -> dominant.Curvature:
    """F = H - G, which is indefinite: its dominant space is the largest algebraic."""
    del config
    return dominant.functional_hessian(task.predict_fn, task.output_loss_fn)


def _random(config: ml_collections.ConfigDict, task: Task) -> dominant.Curvature:
    """sum_i (k + 1 - i) r_i r_i^T, r_i random: a dominant space that means nothing."""
    del task
    k = config.subspace.k

    def at(params: Any, data: Any) -> dominant.Matvec:
        del data
        keys = jax.random.split(jax.random.key(config.seed), k)

        def matvec(v: Any) -> Any:
            def add(i: jax.Array, total: Any) -> Any:
                r = optax.tree.random_like(keys[i], params, jax.random.normal)
                weight = (k - i) * optax.tree.vdot(r, v) / optax.tree.norm(r) ** 2
                return optax.tree.add(total, optax.tree.scale(weight, r))

            return jax.lax.fori_loop(0, k, add, optax.tree.zeros_like(v))

        return matvec

    return at


def _layers(config: ml_collections.ConfigDict, task: Task) -> dominant.Curvature:
    """H without what couples the layers."""
    if len(blocks.layers(task.init)) < 2:
        raise ValueError("subspace.curvature = 'layers' needs at least two layers.")
    return dominant.block_diagonal(
        _hessian(config, task), lambda path, _: blocks.layer_of(path)
    )


def _updates(config: ml_collections.ConfigDict, task: Task) -> dominant.Curvature:
    """The second moment of the latest updates of the base optimizer."""
    del config, task
    return dominant.second_moment


CURVATURES: Mapping[str, Any] = {
    "hessian": _hessian,
    "gauss_newton": _gauss_newton,
    "functional_hessian": _functional_hessian,
    "layers": _layers,
    "updates": _updates,
    "random": _random,
}

WITHOUT_EXAMPLES = ("random", "updates")
"""Curvatures that are not of a loss on examples."""

EXAMPLES = ("train", "batch", "other_batch")


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a curvature that is unknown or cannot be had."""
    subspace = config.subspace
    lookup("subspace.curvature", subspace.curvature, CURVATURES)
    lookup("subspace.products_in", subspace.products_in, DTYPES)
    lookup("subspace.examples", subspace.examples, dict.fromkeys(EXAMPLES))
    if subspace.curvature in WITHOUT_EXAMPLES:
        require_defaults(
            subspace,
            "subspace",
            ("examples", "products_in"),
            f"curvature = {subspace.curvature!r}",
        )
    if subspace.curvature == "updates":
        _check_updates(config)
    else:
        require_defaults(
            subspace,
            "subspace",
            ("window",),
            f"curvature = {subspace.curvature!r}",
        )
    require(
        subspace.examples == "train" or not config.task.streamed,
        "task.streamed takes the curvature on the training examples, not on "
        f"subspace.examples = {subspace.examples!r}.",
    )


def _check_updates(config: ml_collections.ConfigDict) -> None:
    k, window, switch = config.subspace.k, config.subspace.window, config.switch
    require(
        window >= k,
        f"subspace.window must be at least subspace.k = {k}, got {window}.",
    )
    # Before, the basis is arbitrary.
    first = switch.step if switch.step > 0 else switch.min_steps
    require(
        first >= k,
        "subspace.curvature = 'updates' has k directions after k steps: switch.step, "
        f"or switch.min_steps, must be at least {k}, got {first}.",
    )
    require(
        config.projection.acts_on == "update",
        "subspace.curvature = 'updates' is about updates: it needs "
        "projection.acts_on = 'update'.",
    )
    require(
        not config.task.streamed,
        "subspace.curvature = 'updates' needs examples in device memory, not "
        "task.streamed.",
    )


def hessian(
    config: ml_collections.ConfigDict, task: Task, count: int | None = None
) -> dominant.Curvature:
    """Return H, in chunks where its data are too many: what measurements are about.

    Args:
      config: the whole config.
      task: the task.
      count: of the examples that it will be taken on; None: of `curvature_data`.
    """
    return _in_chunks(config, task, _hessian(config, task), count)


def split_hessian(
    config: ml_collections.ConfigDict, task: Task
) -> tuple[dominant.Curvature, dominant.Curvature]:
    """Return G and F, H = G + F, each as `hessian` returns H."""
    gauss_newton = _gauss_newton(config, task)
    functional_hessian = _functional_hessian(config, task)
    return (
        _in_chunks(config, task, gauss_newton),
        _in_chunks(config, task, functional_hessian),
    )


def tracked_curvature(
    config: ml_collections.ConfigDict, task: Task
) -> dominant.Curvature:
    """Return the curvature whose dominant space is tracked."""
    name, dtype = config.subspace.curvature, DTYPES[config.subspace.products_in]
    curvature = CURVATURES[name](config, task)
    if name in WITHOUT_EXAMPLES:
        return curvature
    if dtype != jnp.float32:
        curvature = dominant.in_dtype(curvature, dtype)
    return _in_chunks(config, task, curvature)


def _in_chunks(
    config: ml_collections.ConfigDict,
    task: Task,
    curvature: dominant.Curvature,
    count: int | None = None,
) -> dominant.Curvature:
    if count is None:
        first = config.subspace.num_examples
        # The chunks of a source are none too many: each is a matter of its own.
        count = first or (task.num_train if task.source is None else 0)
    return in_chunks(config, curvature, count)


def in_chunks(
    config: ml_collections.ConfigDict, curvature: dominant.Curvature, count: int
) -> dominant.Curvature:
    """Return a curvature on so many examples, in chunks where these are too many."""
    at_once = config.examples_at_once
    # A product in chunks takes the gradient anew: not where one chunk is all there is.
    return dominant.in_batches(curvature, at_once) if 0 < at_once < count else curvature


def curvature_data(config: ml_collections.ConfigDict, task: Task, train: Any) -> Any:
    """Return the examples that curvature is measured on: the first ones, or all.

    None if these are all the examples of a source, and so not in device memory.
    """
    count = config.subspace.num_examples
    if count:
        return jax.tree.map(lambda x: x[:count], train)
    return train if task.source is None else None


def tracked_data(
    config: ml_collections.ConfigDict,
    task: Task,
    train: Any,
    batch: Any,
    key: Any,
    opt_state: Any,
) -> Any:
    """Return what the tracked curvature is taken on: examples, or the latest updates.

    Args:
      config: the whole config.
      task: the task.
      train: its training examples.
      batch: the step's.
      key: another one at each step; draws the examples of another batch.
      opt_state: before the step.
    """
    if config.subspace.curvature == "updates":
        return dominant.latest(opt_state)
    examples = config.subspace.examples
    if examples == "batch":
        return batch
    if examples == "other_batch":
        shape = (config.batch_size,)
        chosen = jax.random.choice(key, task.num_train, shape, replace=False)
        return jax.tree.map(lambda x: x[chosen], train)
    return curvature_data(config, task, train)
