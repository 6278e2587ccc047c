"""Two classes as one output, and the coordinates p and q of such a network."""

import functools

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import data, measurements, optimizers
from experiments.measurements import canonical
from experiments.measurements.record import Record, Setting
from experiments.tasks import make_task
from tests.experiments.runs import tiny_config


def binary_config(num_train=5, **task):
    config = tiny_config()
    config.task.update(
        {"classes": (3, 7), "num_train": num_train, "loss": "log_cosh", **task}
    )
    return config


def test_two_classes_of_the_digits():
    everything = data.load("digits", num_train=1000)
    found = data.load_two_classes("digits", (3, 7), num_train=6)
    labels = everything.train["labels"]
    first = np.flatnonzero((labels == 3) | (labels == 7))[:6]
    np.testing.assert_array_equal(
        found.train["inputs"], everything.train["inputs"][first]
    )
    expected = np.where(labels[first] == 3, 1.0, -1.0)[:, None]
    np.testing.assert_array_equal(found.train["labels"], expected)
    assert found.train["labels"].dtype == np.float32
    assert found.num_classes == 1
    assert set(np.unique(found.test["labels"])) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("classes", "num_train", "message"),
    [
        ((3,), 5, "two different labels"),
        ((3, 3), 5, "two different labels"),
        ((3, 10), 5, "below 10"),
        ((3, 7), 900, "the two classes has 1 to"),
    ],
)
def test_classes_that_cannot_be(classes, num_train, message):
    with pytest.raises(ValueError, match=message):
        data.load_two_classes("digits", classes, num_train=num_train)


def record_of(task, params, learning_rate):
    nothing = dict.fromkeys(set(Record._fields) - {"params", "learning_rate"})
    return Record(params=params, learning_rate=learning_rate, **nothing)


@pytest.mark.parametrize("num_train", [1, 5])
def test_p_and_q_by_the_explicit_jacobian(num_train):
    config = binary_config(num_train)
    task = make_task(config.task)
    params = task.init(jax.random.key(0))
    curvature = optimizers.hessian(config, task)
    setting = Setting(config, task, curvature, task.train, task.train, task.test)
    rate = np.float32(0.3)
    measure = jax.jit(
        lambda params: canonical.canonical(record_of(task, params, rate), setting)
    )
    found = measure(params)
    flat, unravel = ravel_pytree(params)
    outputs = jax.jit(lambda x: task.predict_fn(unravel(x), task.train)[:, 0])
    jacobian = np.asarray(jax.jacobian(outputs)(flat), np.float64)
    residuals = np.asarray(outputs(flat) - task.train["labels"][:, 0], np.float64)
    values, vectors = np.linalg.eigh(jacobian @ jacobian.T)
    w = vectors[:, -1] * np.sign(vectors[:, -1].sum())
    p = w @ residuals / np.sqrt(num_train)
    np.testing.assert_allclose(found["canonical/p"], p, rtol=1e-4)
    q = 2 * num_train / (rate * values[-1])
    np.testing.assert_allclose(found["canonical/q"], q, rtol=1e-4)
    concentration = num_train * np.sum(w**4)
    np.testing.assert_allclose(
        found["canonical/concentration"], concentration, rtol=1e-3
    )
    assert (concentration == pytest.approx(1)) == (num_train == 1)


def test_near_zero_a_step_is_the_canonical_map():
    """A network that fits its one example up to a little: p <- (1 - 2 / q) p."""
    config = binary_config(1)
    task = make_task(config.task)
    params = task.init(jax.random.key(0))
    little = 1e-3
    output = task.predict_fn(params, task.train)
    train = {**task.train, "labels": output - little}
    task = task._replace(train=train)
    setting = Setting(config, task, None, train, train, None)
    rate = 0.02
    take = functools.partial(record_of, task, learning_rate=np.float32(rate))
    before = canonical.canonical(take(params), setting)
    gradient = jax.grad(task.loss_fn)(params, train)
    after = jax.tree.map(lambda x, g: x - rate * g, params, gradient)
    found = canonical.canonical(take(after), setting)["canonical/p"]
    expected = (1 - 2 / before["canonical/q"]) * before["canonical/p"]
    np.testing.assert_allclose(before["canonical/p"], little, rtol=1e-2)
    np.testing.assert_allclose(found, expected, atol=2e-2 * little)


def test_what_it_is_not_for():
    config = tiny_config()
    config.measure.canonical = 1
    with pytest.raises(ValueError, match="plain gradient descent"):
        measurements.check(config, make_task(config.task))
    config.optimizer.update({"name": "gd", "momentum": 0.0})
    with pytest.raises(ValueError, match="one output, not 10"):
        measurements.check(config, make_task(config.task))
    with pytest.raises(ValueError, match="at most 200 training examples, got 201"):
        canonical.check(config, 1, 201)
    config.task.loss = "squared_error"
    with pytest.raises(ValueError, match="second derivative at 0 is 1"):
        canonical.check(config, 1, 5)


def test_a_task_with_real_labels_has_no_accuracy_and_its_start_can_be_scaled():
    task = make_task(binary_config().task)
    assert task.accuracy_fn is None
    params = task.init(jax.random.key(0))
    _, scores = task.scores(params, task.train)
    assert scores == {}
    scaled = make_task(binary_config(init_scale=3.0).task).init(jax.random.key(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 3 * b, rtol=1e-6), scaled, params
    )
