"""Which curvature is tracked, and on which examples, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from experiments import optimizers, records, train
from experiments.optimizers import curvatures
from experiments.tasks import make_task
from tests.experiments.runs import tiny_config


@pytest.fixture(scope="module")
def config():
    config = tiny_config()
    config.task.num_train = 40
    config.task.hidden_sizes = (2,)
    return config


@pytest.fixture(scope="module")
def task(config):
    return make_task(config.task)


def dense(config, task, params):
    """Return the matrix of the tracked curvature on all training examples."""
    flat, unravel = ravel_pytree(params)

    def product(v):
        matvec = optimizers.tracked_curvature(config, task)(params, task.train)
        return ravel_pytree(matvec(unravel(v)))[0]

    return np.asarray(jax.jit(jax.vmap(product))(jnp.eye(flat.size)), np.float64)


def test_gauss_newton_is_the_jacobians_square(config, task):
    config = config.copy_and_resolve_references()
    config.subspace.curvature = "gauss_newton"
    params = task.init(jax.random.key(0))
    flat, unravel = ravel_pytree(params)

    def outputs(x):
        return task.predict_fn(unravel(x), task.train)

    jacobian = np.asarray(jax.jit(jax.jacobian(outputs))(flat), np.float64)
    # Of half the squared error, averaged over the examples: J^T J / N.
    expected = np.einsum("nci,ncj->ij", jacobian, jacobian) / len(jacobian)
    found = dense(config, task, params)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_functional_hessian_is_the_outputs_curvature(config, task):
    """Each output's Hessian, weighted with its error: indefinite."""
    config = config.copy_and_resolve_references()
    config.subspace.curvature = "functional_hessian"
    params = task.init(jax.random.key(0))
    flat, unravel = ravel_pytree(params)
    labels = np.eye(10)[np.asarray(task.train["labels"])]
    errors = np.asarray(task.predict_fn(params, task.train)) - labels

    def weighted(x):
        outputs = task.predict_fn(unravel(x), task.train)
        return jnp.sum(jnp.asarray(errors, jnp.float32) * outputs) / len(errors)

    expected = np.asarray(jax.jit(jax.hessian(weighted))(flat), np.float64)
    found = dense(config, task, params)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    values = np.linalg.eigvalsh(expected)
    assert values[0] < -0.1 * values[-1]


def test_a_random_curvature_has_rank_k_and_knows_neither_params_nor_data(config, task):
    config = config.copy_and_resolve_references()
    config.subspace.curvature = "random"
    first, second = (dense(config, task, task.init(jax.random.key(i))) for i in (0, 1))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, first.T, atol=1e-6)
    values = np.linalg.eigvalsh(first)[::-1]
    k = config.subspace.k
    assert values[k - 1] > 0.1
    assert np.max(np.abs(values[k:])) < 1e-5


def test_layers_are_the_hessian_without_what_couples_them(config, task):
    params = task.init(jax.random.key(0))
    expected = dense(config, task, params)
    # In the order of `ravel_pytree`.
    sizes = [optax.tree.size(layer) for layer in params["layers"].values()]
    first, second = slice(0, sizes[0]), slice(sizes[0], sum(sizes))
    assert np.abs(expected[first, second]).max() > 1e-2
    expected[first, second] = expected[second, first] = 0
    config = config.copy_and_resolve_references()
    config.subspace.curvature = "layers"
    found = dense(config, task, params)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_one_layer_has_nothing_to_couple(config):
    config = config.copy_and_resolve_references()
    config.task.update(
        {
            "dataset": "gaussian_mixture",
            "model": "linear",
            "hidden_sizes": None,
            "loss": "cross_entropy",
        }
    )
    config.subspace.curvature = "layers"
    with pytest.raises(ValueError, match="at least two layers"):
        optimizers.tracked_curvature(config, make_task(config.task))


def test_a_ridge_is_in_the_gauss_newton_part(config):
    """H = G + F, the ridge's identity with G."""
    config = config.copy_and_resolve_references()
    config.task.ridge = 0.3
    task = make_task(config.task)
    params = task.init(jax.random.key(0))
    found = {}
    for name in ("hessian", "gauss_newton", "functional_hessian"):
        config.subspace.curvature = name
        found[name] = dense(config, task, params)
    whole = found["gauss_newton"] + found["functional_hessian"]
    scale = np.abs(found["hessian"]).max()
    np.testing.assert_allclose(whole, found["hessian"], atol=1e-5 * scale)
    assert np.linalg.eigvalsh(found["gauss_newton"])[0] > 0.29


def test_the_space_of_the_latest_updates(config, task):
    """With k of them it holds them all, and their mean square is its trace."""
    config = config.copy_and_resolve_references()
    config.optimizer.update({"name": "sgd", "momentum": 0.0})
    config.switch.update({"threshold": 0.95, "min_steps": 0, "step": 3})
    config.subspace.update({"curvature": "updates", "window": 3, "refresh_every": 1})
    curvatures.check(config)
    tx = optimizers.tracked_optimizer(config, task, 0.0, 1.0)
    params = task.init(jax.random.key(0))

    @jax.jit
    def step(gradient, state):
        on = optimizers.tracked_data(config, task, task.train, None, None, state)
        return tx.update(
            gradient, state, params, curvature_data=on, gradient=gradient, grad_fn=None
        )

    state, squares = tx.init(params), []
    for i in range(6):
        gradient = jax.tree.map(
            lambda p, i=i: 1 + jax.random.normal(jax.random.key(i), p.shape), params
        )
        updates, state = step(gradient, state)
        trace = jnp.sum(state.subspace.eigenvalues)
        if i >= 3:
            np.testing.assert_allclose(trace, np.mean(squares[-3:]), rtol=1e-5)
        # What is remembered are whole updates, not their bulk part.
        whole = config.optimizer.learning_rate * optax.tree.norm(gradient)
        squares.append(float(whole) ** 2)
        assert i < 3 or optax.tree.norm(updates) < 0.9 * whole


def test_rounded_products_differ_by_the_types_rounding(config, task):
    params = task.init(jax.random.key(0))
    full = dense(config, task, params)
    config = config.copy_and_resolve_references()
    config.subspace.products_in = "bfloat16"
    error = np.linalg.norm(dense(config, task, params) - full, 2)
    assert 1e-4 < error / np.linalg.norm(full, 2) < 0.1


def test_examples_of_a_refresh(config, task):
    config = config.copy_and_resolve_references()
    batch = jax.tree.map(lambda x: x[3:7], task.train)

    def taken(name, key=0):
        config.subspace.examples = name
        key = jax.random.key(key)
        return optimizers.tracked_data(config, task, task.train, batch, key, None)

    assert taken("batch") is batch
    assert taken("train") is task.train
    one, other = (np.asarray(taken("other_batch", key)["inputs"]) for key in (0, 1))
    assert len(one) == config.batch_size
    inputs = np.asarray(task.train["inputs"])
    rows = [np.flatnonzero((inputs == x).all(axis=(1, 2, 3))).tolist() for x in one]
    assert len({tuple(found) for found in rows}) == len(one)
    assert all(rows)
    assert (one != other).any()


def test_a_run_tracks_another_batch_in_bfloat16(tmp_path):
    config = tiny_config()
    config.subspace.examples = "other_batch"
    config.subspace.products_in = "bfloat16"
    config.subspace.refresh_every = 1
    config.measure.exact = 1
    config.measure.spectrum = config.measure.held_out = 0
    config.switch.update({"threshold": 0.95, "min_steps": 0, "step": 10})
    config.steps = 30
    train.run(config, tmp_path)
    lines = records.read_metrics(tmp_path)
    overlaps = [line["exact/overlap"] for line in lines]
    assert 0.05 < np.mean(overlaps) < 0.99
    of_dom = [line for line in lines if line["branch"] == "dom"]
    assert all(abs(line["alignment/update"] - 1) < 1e-3 for line in of_dom)
    assert any(line["exact/alignment_update"] < 0.99 for line in of_dom)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"curvature": "hesian"}, "unknown subspace.curvature 'hesian'"),
        ({"examples": "all"}, "known ones: batch, other_batch, train"),
        ({"products_in": "float8"}, "known ones: bfloat16, float32"),
        ({"curvature": "random", "examples": "batch"}, "has no effect"),
        ({"curvature": "updates", "products_in": "bfloat16"}, "has no effect"),
        ({"curvature": "updates", "window": 2}, "at least subspace.k = 3, got 2"),
        ({"curvature": "updates", "k": 20}, "k directions after k steps"),
        ({"window": 7}, "has no effect with curvature = 'hessian'"),
    ],
)
def test_what_cannot_be_tracked_is_refused(fields, message):
    config = tiny_config()
    config.subspace.update(fields)
    with pytest.raises(ValueError, match=message):
        curvatures.check(config)


def test_streamed_examples_are_those_of_training():
    config = tiny_config()
    config.task.streamed = True
    config.subspace.examples = "batch"
    with pytest.raises(ValueError, match=r"task\.streamed"):
        curvatures.check(config)
