"""Makes an instance: loads the data, trains, all from one seed."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data, models
from experiments.benchmarks.jax_solvers import LossFn, loss_fn
from experiments.benchmarks.problems import Instance, Problem

_SEED = 0


def make_instance(problem: Problem) -> Instance:
    """Train a problem's network by plain SGD.

    Raises:
      MissingDatasetError: if the data set is not on disk.
    """
    splits = data.load(problem.dataset, num_train=problem.num_train)
    inputs = splits.train["inputs"].reshape(problem.num_train, -1)
    if problem.standardize:
        deviation = inputs.std(axis=0)
        inputs = (inputs - inputs.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    train_set = {"inputs": jnp.asarray(inputs), "labels": splits.train["labels"]}
    sizes = (inputs.shape[1], *problem.hidden_sizes, splits.num_classes)
    init_key, order_key = jax.random.split(jax.random.key(_SEED))
    params = models.mlp(sizes, "tanh", "pytorch").init(init_key)
    params = _train(problem, loss_fn(sizes), params, train_set, order_key)
    layers = [params["layers"][str(i)] for i in range(len(sizes) - 1)]
    kernels = [np.asarray(layer["kernel"]) for layer in layers]
    biases = [np.asarray(layer["bias"]) for layer in layers]
    num_parameters = sum(array.size for array in (*kernels, *biases))
    start = np.random.default_rng(_SEED).standard_normal(num_parameters)
    return Instance(
        inputs=inputs,
        labels=splits.train["labels"],
        kernels=kernels,
        biases=biases,
        start=start.astype(np.float32),
    )


def _train(
    problem: Problem, loss: LossFn, params: dict, train_set: dict, key: jax.Array
) -> dict:
    """Return the parameters after SGD, the examples reshuffled each epoch."""
    # The last epoch is cut off; within one, what does not fill a batch is skipped.
    batches = problem.num_train // problem.batch_size
    keys = jax.random.split(key, math.ceil(problem.steps / batches))

    @jax.jit
    def run(params: dict, train_set: dict) -> dict:
        orders = jax.vmap(lambda key: jax.random.permutation(key, problem.num_train))
        indices = orders(keys)[:, : batches * problem.batch_size]
        indices = indices.reshape(-1, problem.batch_size)[: problem.steps]

        def step(params: dict, chosen: jax.Array) -> tuple[dict, None]:
            batch = jax.tree.map(lambda x: x[chosen], train_set)
            gradient = jax.grad(loss)(params, batch)
            rate = problem.learning_rate
            return jax.tree.map(lambda p, g: p - rate * g, params, gradient), None

        return jax.lax.scan(step, params, indices)[0]

    return run(params, train_set)
