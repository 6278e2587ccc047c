"""P2-E2: how many directions to leave out? Phase diagram in (learning rate, k).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/dimensions

The setting of raised_rate.py. Expected: Bulk-SGD's edge is 2/lambda_{k+1}, so that it
stands the larger rates the more directions it leaves out.

At SCALE=cpu it took 6 minutes on one shared AMD EPYC core. P2-E2 edge, P2-E2:
reproduced. P2-E2 best k: no verdict.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "The dimension of the dominant space: MLP on MNIST-5k"
    return config


def get_grid() -> dict[str, tuple]:
    return {
        "subspace.k": (1, 2, 5, 10, 20, 50),
        "optimizer.drop_factor": raised_rate.FACTORS,
    }


# Without a gap, as at k = 20, each refresh takes hundreds of products.
SCALES = {
    "cpu": {**raised_rate.CPU_AT_SWITCH, "subspace.min_interval": 100},
    "ci": raised_rate.CI,
}
GRIDS = {
    "cpu": {
        "subspace.k": (1, 5, 10, 20),
        "optimizer.drop_factor": (1.0, 16.0, 64.0, 256.0),
    },
    "ci": {"subspace.k": (1, 3), "optimizer.drop_factor": (1.0, 64.0)},
}
