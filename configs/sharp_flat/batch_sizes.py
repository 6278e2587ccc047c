"""P2-E5: two edges: phase diagram in (batch size, learning rate), SGD and Bulk-SGD.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/batch_sizes

The setting of raised_rate.py with other batches, from the start. Expected: Bulk-SGD
stands larger rates than SGD at each batch size.

At SCALE=cpu it took 10 minutes on one shared AMD EPYC core. P2-E5 edge, P2-E5:
reproduced.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "The batch size: MLP on MNIST-5k"
    return config


def get_grid() -> dict[str, tuple]:
    return {
        "batch_size": (10, 50, 250, 1000),
        "optimizer.drop_factor": raised_rate.FACTORS,
    }


SCALES = {"cpu": raised_rate.CPU_AT_SWITCH, "ci": raised_rate.CI}
GRIDS = {
    "cpu": {
        "batch_size": (10, 50, 250),
        "optimizer.drop_factor": (1.0, 4.0, 16.0, 32.0, 64.0, 256.0),
    },
    "ci": {"batch_size": (10, 50), "optimizer.drop_factor": (1.0, 64.0)},
}
