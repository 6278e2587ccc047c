"""Sensitivity, S4: rounded products, Gauss-Newton, and a basis that means nothing.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/sensitivity_matrix

As sensitivity_interval.py, refreshed each 10 steps: products in float32 and in
bfloat16, the Gauss-Newton matrix in place of the Hessian, and a random basis. With the
last one Dom-SGD should hardly move and Bulk-SGD be SGD: a control.

At SCALE=cpu it took 4 minutes on two shared AMD EPYC cores. S4: reported.
"""

import ml_collections

from configs.tiny_subspaces import sensitivity_interval


def get_config() -> ml_collections.ConfigDict:
    config = sensitivity_interval.get_config()
    config.title = "Rounded products, other matrices: MLP on MNIST-5k"
    return config


def get_grid() -> list[dict[str, tuple]]:
    return [
        {"subspace.products_in": ("float32", "bfloat16")},
        {"subspace.curvature": ("gauss_newton", "random")},
    ]


SCALES = {
    "cpu": {**sensitivity_interval.CPU, "subspace.refresh_every": 50},
    "ci": sensitivity_interval.CI,
}
