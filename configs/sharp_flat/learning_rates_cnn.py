"""P2-E1 on the CNN: SGD, Dom-SGD and Bulk-SGD at 1 to 256 times the rate.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/learning_rates_cnn

The CNN of figure 1 on CIFAR10-5k, SGD at 0.001 and from step 3,000 on at a multiple;
otherwise as learning_rates.py, with the same expectations.

At SCALE=cpu it took 15 minutes on one shared AMD EPYC core. P2-E1 rate, CNN, P2-E1
edge, CNN: reproduced.
"""

import ml_collections

from configs.sharp_flat import learning_rates
from configs.tiny_subspaces import cnn_cifar10, small


def get_config() -> ml_collections.ConfigDict:
    config = learning_rates.get_config()
    config.title = "Multiples of the learning rate: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    config.log_every = 50
    return config


def get_grid() -> dict[str, tuple]:
    return {"optimizer.drop_factor": (1.0, 4.0, 16.0, 64.0, 256.0)}


SCALES = {
    "cpu": {
        "task.num_train": 250,
        "seeds": 1,
        "steps": 1200,
        "switch.step": 500,
        "optimizer.drop_steps": (500,),
        "subspace.min_interval": 50,
        "log_every": 49,
        "report_window": 100,
        "checkpoint_every": 4900,
    },
    "ci": {**small.CNN_AT_ONCE, "switch.step": 30, "optimizer.drop_steps": (30,)},
}
GRIDS = {
    "cpu": {"optimizer.drop_factor": (1.0, 16.0, 64.0, 256.0)},
    "ci": {"optimizer.drop_factor": (1.0, 16.0)},
}
