"""P1-E13, CNN: Dom and Bulk with momentum and with Adam (App. F).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/momentum_adam_cnn

As momentum_adam.py with the CNN of figure 1, at its learning rate 0.001.

At SCALE=cpu it took 6 minutes on two shared AMD EPYC cores. P1-E13 CNN: partly.
"""

import ml_collections

from configs.tiny_subspaces import cnn_cifar10, momentum_adam, small


def get_config() -> ml_collections.ConfigDict:
    config = momentum_adam.get_config()
    config.title = "Momentum and Adam: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    return config


get_grid = momentum_adam.get_grid

SCALES = {"cpu": cnn_cifar10.SHORT, "ci": small.CNN}
GRIDS = {
    "cpu": momentum_adam.AT_ONE_RATE,
    "ci": momentum_adam.OPTIMIZERS[:1],
}
