"""P1-E11 and P1-R7: VGG-11 on CIFAR10-5k, with Bulk (Fig. 17).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/vgg11

VGG-11 without BatchNorm or dropout, 9,750,922 parameters, half the summed squared
error, SGD with batch 50 and learning rate 0.01 (ours), 5,000 steps. Expected: after the
switch Dom-SGD's loss rises, while SGD and Bulk-SGD learn.

At SCALE=cpu it took 5 minutes on two shared AMD EPYC cores. P1-E11: partly; P1-R7
VGG-11: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import cnn_cifar10, small


def get_config() -> ml_collections.ConfigDict:
    config = cnn_cifar10.get_config()
    config.title = "VGG-11 on CIFAR10-5k"
    config.seeds = 3
    config.task.model = "vgg11"
    config.optimizer.learning_rate = 0.01
    config.steps = 5000
    config.subspace.refresh_every = 0
    config.examples_at_once = 500
    config.measure.spectrum = 0
    return config


# An eighth of its width, few examples and a given switch; at first a refresh takes 50
# products, and the basis would turn every other step.
SCALES = {
    "cpu": {
        "seeds": 1,
        "task.width": 0.125,
        "task.num_train": 1000,
        "subspace.num_examples": 200,
        "subspace.min_interval": 50,
        "steps": 2400,
        "switch.step": 1200,
        "log_every": 50,
    },
    "ci": {**small.IMAGES, "task.dataset": "cifar10", "task.width": 0.03},
}
