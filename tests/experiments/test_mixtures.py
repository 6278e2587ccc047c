"""Mixtures: means, labels, noise; what cannot be drawn."""

import jax
import numpy as np
import pytest

from configs import defaults
from experiments import data, tasks, train
from experiments.data import mixtures

COUNT = 40_000


def drawn(splits, key=7):
    found = splits.sample(jax.random.key(key), COUNT)
    return np.asarray(found["inputs"], np.float64), np.asarray(found["labels"])


@pytest.mark.parametrize("means", ["orthonormal", "general"])
def test_a_gaussian_mixture(means):
    splits = data.load(
        "gaussian_mixture",
        num_train=5,
        dimension=6,
        snr=4.0,
        num_components=3,
        means=means,
        num_test=7,
    )
    rows = splits.mixture.means
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    assert splits.mixture.span.shape == (3, 6)
    gram = rows @ rows.T
    off = np.abs(gram - np.eye(3)).max()
    assert off < 1e-6 if means == "orthonormal" else 0.05 < off < 0.95
    inputs, labels = drawn(splits)
    counts = np.bincount(labels, minlength=3) / COUNT
    np.testing.assert_allclose(counts, 1 / 3, atol=0.015)
    for label, mean in enumerate(rows):
        noise = inputs[labels == label] - mean
        np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.03)
        np.testing.assert_allclose(noise.var(axis=0), 1 / 4, rtol=0.06)
    assert len(splits.train["labels"]) == 5
    assert len(splits.test["labels"]) == 7


def test_the_xor_mixture():
    splits = data.load("xor_mixture", num_train=5, dimension=4, snr=100.0)
    inputs, labels = drawn(splits)
    along = np.abs(inputs[:, :2]).argmax(axis=1)
    # Class 1 is at +-mu, class 0 at +-nu; both signs are equally likely.
    np.testing.assert_array_equal(labels, 1 - along)
    for axis in (0, 1):
        own = inputs[along == axis, axis]
        np.testing.assert_allclose(np.abs(own).mean(), 1, atol=0.01)
        np.testing.assert_allclose((own > 0).mean(), 0.5, atol=0.02)
    np.testing.assert_allclose(inputs[:, 2:].var(), 0.01, rtol=0.05)


def test_the_fixed_sets_share_no_numbers_with_a_seed():
    splits = data.load("xor_mixture", num_train=50, dimension=4, snr=1.0, num_test=50)
    fixed = np.concatenate(
        [splits.train["inputs"].ravel(), splits.test["inputs"].ravel()]
    )
    for seed in range(3):
        for key in jax.random.split(jax.random.key(seed)):
            numbers = np.asarray(jax.random.normal(key, (50,)))
            assert not np.isin(numbers, fixed).any()
    assert not np.isin(splits.train["inputs"], splits.test["inputs"]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_components": 1}, "num_components in 2 .. dimension"),
        ({"num_components": 9, "dimension": 8}, "num_components in 2 .. dimension"),
        ({"means": "parallel"}, "known ones: general, orthonormal"),
        ({"snr": 0.0}, "an snr above 0"),
        ({"num_test": 0}, "at least one example"),
    ],
)
def test_mixtures_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        mixtures.load_gaussian_mixture(3, None, **options)
    with pytest.raises(ValueError, match="a dimension of at least 2"):
        mixtures.load_xor_mixture(3, None, dimension=1)


def synthetic(**task):
    config = defaults.get_config()
    config.task.dataset, config.task.model = "xor_mixture", "two_layer"
    config.task.loss = "cross_entropy"
    config.task.dimension, config.task.num_train = 4, 10
    config.task.fresh = True
    config.task.update(task)
    return config


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"streamed": True}, "task.fresh has no effect with task.streamed"),
        ({"classes": (0, 1)}, "chooses among images"),
        ({"dataset": "digits", "model": "mlp", "dimension": None}, "synthetic"),
        ({"ridge": -1.0}, "at least 0"),
        (
            {
                "dataset": "digits",
                "model": "mlp",
                "fresh": False,
                "classes": (0, 1),
                "dimension": None,
            },
            "of a single output is 0",
        ),
    ],
)
def test_fields_that_do_not_go_together(task, message):
    with pytest.raises(ValueError, match=message):
        tasks.make_task(synthetic(**task).task)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer.name", "gd", "no full batch"),
        ("noise_free_steps", (1, 2), "no full batch"),
        ("subspace.examples", "other_batch", "draws from the training set"),
    ],
)
def test_a_training_set_that_is_not_trained_on(field, value, message):
    config = synthetic()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        train.check(config)
