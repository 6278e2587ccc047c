"""Optimizers from a config, tracked and projected."""

from typing import Any

import ml_collections
import optax

import dominant
from experiments.tasks import Task

OPTIMIZERS = {
    "sgd": lambda config: optax.sgd(config.learning_rate, config.momentum or None),
    "adam": lambda config: optax.adam(config.learning_rate),
}


def base_optimizer(
    config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
    """Return the optimizer that `config.name` names.

    Raises:
      ValueError: if the name is unknown, or takes no momentum and is given one.
    """
    if config.name not in OPTIMIZERS:
        known = ", ".join(sorted(OPTIMIZERS))
        raise ValueError(f"unknown optimizer {config.name!r}; known ones: {known}")
    if config.momentum and config.name != "sgd":
        raise ValueError(
            f"optimizer.momentum is for sgd; {config.name!r} got {config.momentum}"
        )
    return OPTIMIZERS[config.name](config)


def refresh_policy(config: ml_collections.ConfigDict) -> dominant.RefreshPolicy:
    """Return the policy that the config's `subspace` asks for."""
    if config.refresh_every:
        return dominant.every(config.refresh_every)
    return dominant.adaptive(config.max_angle, max_interval=config.max_interval)


def curvature(config: ml_collections.ConfigDict, task: Task) -> dominant.Curvature:
    """Return the Hessian of the training loss, in chunks where the config says so."""
    hessian = dominant.hessian(task.loss_fn)
    batch_size = config.subspace.batch_size
    return dominant.in_batches(hessian, batch_size) if batch_size else hessian


def tracked_optimizer(
    config: ml_collections.ConfigDict, task: Task, dom: Any, bulk: Any
) -> optax.GradientTransformationExtraArgs:
    """Return the config's optimizer; after the switch (dom, bulk) weigh its update.

    The state's structure does not depend on the weights, so that every branch can start
    from one and the same state.
    """
    return dominant.track_subspace(
        optax.chain(
            base_optimizer(config.optimizer),
            dominant.after_alignment(
                dominant.interpolate_project(dom, bulk),
                threshold=config.switch.threshold,
                decay=config.switch.decay,
                min_steps=config.switch.min_steps,
            ),
        ),
        curvature=curvature(config, task),
        k=config.subspace.k,
        refresh=refresh_policy(config.subspace),
        tol=config.subspace.tol,
    )


def switch_state(opt_state: Any) -> dominant.AfterAlignmentState:
    """Return the warm-up rule's state inside a `tracked_optimizer`'s state."""
    return opt_state.inner_state[-1]
