"""A record at random params with its setting, beside the dense pieces in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import dominant
from configs import defaults
from experiments import optimizers
from experiments.measurements import MEASUREMENTS, Record, Setting
from experiments.passes import scores_and_gradient
from experiments.tasks import make_task

K = 3


def make_case():
    """An MLP on digits after one step of Adam: record, setting, dense pieces."""
    config = defaults.get_config()
    config.task.num_train = 60
    config.task.hidden_sizes = (3,)
    config.subspace.k = K
    config.optimizer.name = "adam"
    task = make_task(config.task)
    params = task.init(jax.random.key(1))
    curvature = dominant.hessian(task.loss_fn)
    tx = optimizers.tracked_optimizer(config, task, 1.0, 1.0)
    batch = jax.tree.map(lambda x: x[:20], task.train)

    @jax.jit
    def take_step(params, train, batch):
        (loss, scores), gradient = scores_and_gradient(task, params, train)
        batch_loss, batch_gradient = jax.value_and_grad(task.loss_fn)(params, batch)
        updates, state = tx.update(
            batch_gradient,
            tx.init(params),
            params,
            curvature_data=train,
            gradient=gradient,
        )
        whole = {"loss": loss, "gradient": gradient, "scores": scores}
        return whole, batch_loss, batch_gradient, updates, state

    whole, batch_loss, batch_gradient, updates, state = take_step(
        params, task.train, batch
    )
    gradient = whole["gradient"]
    record = Record(
        step=jnp.int32(7),
        key=jax.random.key(3),
        params=params,
        **whole,
        batch_loss=batch_loss,
        batch_gradient=batch_gradient,
        updates=updates,
        learning_rate=jnp.float32(config.optimizer.learning_rate),
        tracker=state,
        average=jnp.float32(0.5),
    )
    setting = Setting(config, task, curvature, task.train, task.train, task.test)
    flat, unravel = ravel_pytree(params)

    def flat_loss(x):
        return task.loss_fn(unravel(x), task.train)

    dense = {
        "hessian": np.asarray(jax.jit(jax.hessian(flat_loss))(flat), np.float64),
        "basis": np.stack(
            [
                ravel_pytree(jax.tree.map(lambda b, i=i: b[i], state.subspace.basis))[0]
                for i in range(K)
            ]
        ).astype(np.float64),
        **{
            name: np.asarray(ravel_pytree(tree)[0], np.float64)
            for name, tree in {
                "params": params,
                "gradient": gradient,
                "batch_gradient": batch_gradient,
                "updates": updates,
            }.items()
        },
    }
    return record, setting, dense


def take(name, case, memory=()):
    record, setting, _ = case
    run = jax.jit(lambda r, m: MEASUREMENTS[name].take(r, setting, m))
    metrics, memory = run(record, memory)
    return {key: np.asarray(value) for key, value in metrics.items()}, memory


def parts(dense, vector):
    inside = dense["basis"].T @ (dense["basis"] @ vector)
    return {"dom": inside, "bulk": vector - inside}
