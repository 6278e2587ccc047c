"""Sensitivity, S2: how far from converged may the basis be?

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/sensitivity_tolerance

As sensitivity_interval.py, refreshed each 10 steps, to relative residuals of 1e-4 to
0.5.

At SCALE=cpu it took 3 minutes on two shared AMD EPYC cores. S2: reported.
"""

import ml_collections

from configs.tiny_subspaces import sensitivity_interval


def get_config() -> ml_collections.ConfigDict:
    config = sensitivity_interval.get_config()
    config.title = "How far from converged may the basis be? MLP on MNIST-5k"
    return config


def get_grid() -> dict[str, tuple]:
    return {"subspace.tol": (1e-4, 1e-3, 1e-2, 0.1, 0.5)}


SCALES = {
    "cpu": {**sensitivity_interval.CPU, "subspace.refresh_every": 50},
    "ci": sensitivity_interval.CI,
}
GRIDS = {
    "cpu": {"subspace.tol": (1e-3, 0.1, 0.5)},
    "ci": {"subspace.tol": (1e-3, 0.5)},
}
