"""P2, ours: cheaper bases at equal time, on the CNN.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/cheaper_bases_cnn

As cheaper_bases.py with the task of time_to_loss_cnn.py and SGD at 0.01.

At SCALE=cpu it took 6 minutes on one shared AMD EPYC core. P2 bases, CNN: reproduced.
"""

import ml_collections

from configs.sharp_flat import cheaper_bases, time_to_loss, time_to_loss_cnn


def get_config() -> ml_collections.ConfigDict:
    config = time_to_loss_cnn.get_config()
    config.title = "Cheaper bases: CNN on CIFAR10-5k"
    config.optimizer.learning_rate = 0.01
    config.subspace.refresh_every = 50
    return config


def get_grid() -> list[time_to_loss.Fields]:
    return cheaper_bases.grid_of(1000, 200)


# Long enough for a solve on all examples to be a small part of it.
SCALES = {
    **time_to_loss_cnn.SCALES,
    "cpu": {
        **time_to_loss_cnn.SCALES["cpu"],
        "task.num_train": 500,
        "steps": 400,
        "checkpoint_every": 400,
        "subspace.refresh_every": 100,
    },
}
GRIDS = {
    "cpu": cheaper_bases.grid_of(100, 20, (4.0,)),
    "ci": cheaper_bases.GRIDS["ci"],
}
