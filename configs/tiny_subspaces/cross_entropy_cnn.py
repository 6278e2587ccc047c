"""P1-E10 and P1-R7, CNN: cross-entropy, with Bulk (Fig. 14).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/cross_entropy_cnn

The CNN of figure 1 with cross-entropy. Expected: after the switch Dom-SGD's loss rises,
while SGD and Bulk-SGD learn.

At SCALE=cpu it took 4 minutes on two shared AMD EPYC cores. P1-E10 CNN: partly; P1-R7
CNN: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import cnn_cifar10, cross_entropy, small


def get_config() -> ml_collections.ConfigDict:
    config = cross_entropy.get_config()
    config.title = "Cross-entropy: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    return config


SCALES = {"cpu": cnn_cifar10.SHORT, "ci": small.CNN}
