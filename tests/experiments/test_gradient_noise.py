"""Norms of the gradient's noise: by hand, on a loss that is linear in its params."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.linear_attention import noise
from experiments import gradient_noise, records
from experiments.tasks import Task

BATCH = 5


def sample(key, count):
    return {"inputs": jax.random.normal(key, (count, 3))}


def linear_task():
    """The gradient of the mean of <params, x> over a batch is the mean of its x."""

    def loss_fn(params, data):
        return jnp.mean(data["inputs"] @ params)

    return Task(None, loss_fn, None, None, None, None, sample=sample)


def test_norms_by_hand():
    keys = jax.random.split(jax.random.key(0))
    norms, norm = gradient_noise.noise_norms(
        linear_task(), jnp.ones(3), tuple(keys), (7, 4), BATCH
    )

    def means(key, count):
        batches = [sample(k, BATCH)["inputs"] for k in jax.random.split(key, count)]
        return np.array([np.asarray(x, np.float64).mean(axis=0) for x in batches])

    mean = means(keys[0], 7).mean(axis=0)
    expected = np.linalg.norm(means(keys[1], 4) - mean, axis=1)
    np.testing.assert_allclose(norms, expected, rtol=1e-5)
    np.testing.assert_allclose(norm, np.linalg.norm(mean), rtol=1e-5)


def little():
    config = noise.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(noise.SCALES["ci"])
        config.num_batches = 12
    return config


def test_a_run_leaves_one_line(tmp_path):
    status = gradient_noise.run(little(), tmp_path)
    assert status["status"] == "finished"
    (line,) = records.read_metrics(tmp_path)
    assert len(line["noise/norms"]) == 12
    assert min(line["noise/norms"]) > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_batches": 0}, "num_batches must be at least 1"),
        ({"steps": 10}, "one line, at step 0"),
        ({"task.fresh": False}, "set task.fresh"),
    ],
)
def test_what_cannot_be_run(fields, message, tmp_path):
    config = little()
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        gradient_noise.run(config, tmp_path)
