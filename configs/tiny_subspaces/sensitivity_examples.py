"""Sensitivity, S3, and P1-R6: on how few examples may the curvature be taken?

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/sensitivity_examples

As sensitivity_interval.py, refreshed each 10 steps, with the Hessian of 50 to all 5,000
training examples, and (P1-R6, asked by the paper's reviewers) with that of a refresh's
own mini-batch and of another one. The angle is that to the space of the full Hessian.

At SCALE=cpu it took 5 minutes on two shared AMD EPYC cores. S3, P1-R6: reported.
"""

import ml_collections

from configs.tiny_subspaces import sensitivity_interval


def get_config() -> ml_collections.ConfigDict:
    config = sensitivity_interval.get_config()
    config.title = "On how few examples may the curvature be taken? MLP on MNIST-5k"
    return config


def get_grid() -> list[dict[str, tuple]]:
    return [
        {"subspace.num_examples": (0, 50, 200, 1000)},
        {"subspace.examples": ("batch", "other_batch")},
    ]


SCALES = {
    "cpu": {**sensitivity_interval.CPU, "subspace.refresh_every": 50},
    "ci": sensitivity_interval.CI,
}
GRIDS = {
    "cpu": [
        {"subspace.num_examples": (0, 50, 200)},
        {"subspace.examples": ("batch", "other_batch")},
    ],
    "ci": [{"subspace.num_examples": (0, 20)}, {"subspace.examples": ("other_batch",)}],
}
