"""Directional smoothness and condition numbers, against the dense Hessian."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import measurements
from experiments.measurements import smoothness
from experiments.tasks import make_task
from tests.experiments.measured import make_case
from tests.experiments.runs import tiny_config


@pytest.fixture(scope="module")
def case():
    return make_case()


def test_directional_smoothness(case):
    record, setting, dense = case
    found = jax.jit(lambda r: smoothness.smoothness(r, setting))(record)
    step = np.asarray(ravel_pytree(record.updates)[0], np.float64)
    expected = step @ dense["hessian"] @ step / (step @ step)
    np.testing.assert_allclose(found["smoothness/directional"], expected, rtol=1e-3)
    norm = np.linalg.norm(step)
    np.testing.assert_allclose(found["smoothness/update_norm"], norm, rtol=1e-5)
    gradient = np.asarray(ravel_pytree(record.gradient)[0], np.float64)
    norm = np.linalg.norm(gradient)
    np.testing.assert_allclose(found["smoothness/gradient_norm"], norm, rtol=1e-5)


def test_condition_numbers(case):
    record, setting, dense = case
    found = jax.jit(lambda r: smoothness.conditioning(r, setting))(record)
    values = np.linalg.eigvalsh(dense["hessian"])
    diagonal = np.abs(np.diag(dense["hessian"]))
    expected = {
        "by_eigenvalues": values[-1] / np.median(np.abs(values)),
        "by_diagonal": diagonal.max() / np.median(diagonal),
        "norm": np.abs(values).max(),
        "smallest": values[0],
    }
    for name, number in expected.items():
        found_number = found[f"conditioning/{name}"]
        np.testing.assert_allclose(found_number, number, rtol=5e-3, err_msg=name)


def test_no_huge_matrix_is_made():
    config = tiny_config()
    config.measure.conditioning = 1
    task = make_task(config.task)
    measurements.check(config, task)
    config.task.hidden_sizes = (200,)
    with pytest.raises(ValueError, match="at most 3,000 parameters, not of 15,0"):
        measurements.check(config, make_task(config.task))
