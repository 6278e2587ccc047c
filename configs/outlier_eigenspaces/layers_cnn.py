"""P3, ours: the layers of the CNN.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=outlier_eigenspaces/layers_cnn

As layers.py with the CNN of figure 1 on CIFAR10-5k.

At SCALE=cpu it took 8 minutes on one shared AMD EPYC core. P3 layers, CNN, P3 layers,
CNN, parameters: not reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import layers
from configs.tiny_subspaces import cnn_cifar10, small


def get_config() -> ml_collections.ConfigDict:
    config = layers.get_config()
    config.title = "Layer by layer: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    return config


SCALES = {
    "cpu": {
        "task.num_train": 250,
        "examples_at_once": 0,
        "subspace.refresh_every": 1000,
        "steps": 2000,
        "log_every": 500,
        "blocks.splits": ("train",),
        "blocks.matrices": ("hessian",),
        "measure.held_out": 0,
    },
    "ci": {**small.CNN_AT_ONCE, "log_every": 20},
}
