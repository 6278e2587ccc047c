"""P2, ours: does it pay, on the CNN? Time to a loss on CIFAR10-5k.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/time_to_loss_cnn

As time_to_loss.py with the CNN of figure 1, each optimizer with its own learning rates.

At SCALE=cpu it took 13 minutes on one shared AMD EPYC core. P2 steps, CNN, P2 time,
CNN: partly.
"""

import ml_collections

from configs.sharp_flat import time_to_loss
from configs.tiny_subspaces import cnn_cifar10, small


def get_config() -> ml_collections.ConfigDict:
    config = time_to_loss.get_config()
    config.title = "Does it pay? CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    return config


# On this task 2 / lambda_1 is about 0.02.
OPTIMIZERS = time_to_loss.with_rates((0.003, 0.01, 0.03), (3e-4, 1e-3, 3e-3))


def get_grid() -> list[time_to_loss.Fields]:
    return time_to_loss.grid_of(OPTIMIZERS, time_to_loss.WEIGHTS, time_to_loss.TRACKERS)


_TRACKER: time_to_loss.Fields = {
    "subspace.refresh_every": (60,),
    "subspace.num_examples": (50,),
}
SCALES = {
    "cpu": {
        "task.num_train": 1000,
        "steps": 300,
        "switch.step": 60,
        "subspace.num_examples": 50,
        "subspace.min_interval": 30,
        "checkpoint_every": 300,
    },
    "ci": {
        **small.CNN_AT_ONCE,
        "switch.step": 20,
        "subspace.num_examples": 60,
    },
}
GRIDS = {
    # 8 runs of SGD and of Adam, 6 of SAM and of Muon.
    "cpu": time_to_loss.few_of((0.01, 0.03), (1e-3, 3e-3), 3e-3, _TRACKER),
    "ci": time_to_loss.GRIDS["ci"],
}
