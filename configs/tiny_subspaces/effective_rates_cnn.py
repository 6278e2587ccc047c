"""P1-E8 and P1-R4, CNN: effective learning rates in both spaces (Table 1).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/effective_rates_cnn

As effective_rates.py with the CNN of figure 1, at its learning rate 0.001.

At SCALE=cpu it took 5 minutes on two shared AMD EPYC cores. P1-E8 CNN: partly; P1-R4
CNN: reported.
"""

import ml_collections

from configs.tiny_subspaces import cnn_cifar10, effective_rates, small


def get_config() -> ml_collections.ConfigDict:
    config = effective_rates.get_config()
    config.title = "Effective learning rates: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    return config


get_grid = effective_rates.get_grid

SCALES = {
    "cpu": {
        "seeds": 1,
        "task.num_train": 250,
        "steps": 500,
        "checkpoint_every": 500,
        "subspace.refresh_every": 50,
        "log_every": 5,
    },
    "ci": {**small.CNN_AT_ONCE, "log_every": 1},
}
GRIDS = {"ci": get_grid()[:2]}
