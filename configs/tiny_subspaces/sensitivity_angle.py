"""Sensitivity, S5: to which angle must the basis be kept? (the default of max_angle)

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/sensitivity_angle

As sensitivity_interval.py, refreshed when the controller expects the basis to be off by
an angle of max_angle radians.

At SCALE=cpu it took 3 minutes on two shared AMD EPYC cores. S5: reported.
"""

import ml_collections

from configs.tiny_subspaces import sensitivity_interval


def get_config() -> ml_collections.ConfigDict:
    config = sensitivity_interval.get_config()
    config.title = "To which angle must the basis be kept? MLP on MNIST-5k"
    config.subspace.refresh_every = 0
    return config


def get_grid() -> dict[str, tuple]:
    return {"subspace.max_angle": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)}


SCALES = {
    "cpu": sensitivity_interval.CPU,
    "ci": {**sensitivity_interval.CI, "subspace.refresh_every": 0},
}
GRIDS = {
    "cpu": {"subspace.max_angle": (0.1, 0.3, 1.0)},
    "ci": {"subspace.max_angle": (0.1, 1.0)},
}
