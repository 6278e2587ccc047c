"""The settings of the mixtures: logistic regression, and two layers on XOR.

One-pass SGD, an example a step, at the learning rate 1/d; time T is steps / d. Spectra
are those of fixed test and training sets, 10,000 examples each unless a file says
otherwise, which steps with fresh examples never see. The paper's own sizes are not
known for certain; these are ours.
"""

from typing import Any

import ml_collections

from configs import defaults


def logistic() -> ml_collections.ConfigDict:
    """Ten components of orthonormal means in d = 1,000, a ridge of 0.05, T = 100."""
    config = _one_pass()
    config.task.dataset = "gaussian_mixture"
    config.task.model = "linear"
    config.task.num_components = 10
    config.task.means = "orthonormal"
    config.task.snr = 100.0
    config.update_from_flattened_dict(lasting(1000, 100))
    return config


def xor() -> ml_collections.ConfigDict:
    """Twenty neurons in d = 500, a ridge of 0.05, T = 120."""
    config = _one_pass()
    config.task.dataset = "xor_mixture"
    config.task.model = "two_layer"
    config.task.num_hidden = 20
    config.task.snr = 100.0
    config.task.num_train = config.task.num_test = 6000
    config.update_from_flattened_dict(lasting(500, 120, 60))
    return config


def _one_pass() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.task.loss = "cross_entropy"
    config.task.num_train = config.task.num_test = 10_000
    config.task.ridge = 0.05
    config.task.fresh = True
    config.batch_size = 1
    config.switch.step = 1
    config.modes = ("plain",)
    # Nothing is projected: the tracked space is not used. One example makes it cheap.
    config.subspace.k = 1
    config.subspace.num_examples = 1
    config.subspace.refresh_every = 10**9
    for name in config.measure:
        config.measure[name] = 0
    config.measure.losses = config.measure.held_out = config.measure.blocks = 1
    return config


def lasting(dimension: int, time: int, lines: int = 50) -> dict[str, Any]:
    """Return the fields of a dimension d, and of d x time steps with so many lines."""
    steps = dimension * time
    every = max(steps // lines, 1)
    return {
        "task.dimension": dimension,
        "steps": steps,
        "optimizer.learning_rate": 1 / dimension,
        "log_every": every,
        "checkpoint_every": 10 * every,
        "report_window": every,
    }


LITTLE = {
    **lasting(12, 5, 6),
    "seeds": 1,
    "task.num_train": 60,
    "task.num_test": 60,
    "check_curvature": False,
}

LITTLE_LOGISTIC = {**LITTLE, "task.num_components": 3}
LITTLE_XOR = {**LITTLE, "task.num_hidden": 6}
