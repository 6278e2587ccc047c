"""P2-E1: SGD, Dom-SGD and Bulk-SGD at 1 to 256 times the learning rate.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/learning_rates

The setting of raised_rate.py, with Dom. Expected: at the first rate Bulk learns at
least as fast as SGD; where Bulk diverges it met its own edge before, that is
eta lambda_max(R H R) > 2, R the projector off its basis.

At SCALE=cpu it took 3 minutes on one shared AMD EPYC core. P2-E1 rate, P2-E1 edge:
reproduced.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "Multiples of the learning rate: MLP on MNIST-5k"
    config.modes = ("plain", "dom", "bulk")
    config.log_every = 10
    return config


def get_grid() -> dict[str, tuple]:
    return {"optimizer.drop_factor": (1.0, 4.0, 16.0, 64.0, 256.0)}


SCALES = {
    "cpu": {**raised_rate.CPU, "log_every": 20},
    "ci": raised_rate.CI,
}
GRIDS = {"ci": {"optimizer.drop_factor": (1.0, 16.0)}}
