"""P2-E3: how stale may Bulk's basis be? Phase diagram in (interval, learning rate).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/intervals

The setting of raised_rate.py, the basis refreshed each T steps. Expected: at the first
rate intervals up to 50 cost nothing; at larger ones a stale basis meets the edge by
lambda_max(R H R), which its error lifts above lambda_{k+1}, the predicted one.

At SCALE=cpu it took 22 minutes on one shared AMD EPYC core. P2-E3 edge, P2-E3:
reproduced.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "The interval between refreshes: MLP on MNIST-5k"
    config.log_every = 27
    config.checkpoint_every = 5400
    return config


def get_grid() -> dict[str, tuple]:
    return {
        "subspace.refresh_every": (1, 10, 50, 200, 1000),
        "optimizer.drop_factor": raised_rate.FACTORS,
    }


# Lines out of step with the refreshes, so that bases of all ages are looked at.
SCALES = {
    "cpu": {
        **raised_rate.CPU,
        "log_every": 49,
        "checkpoint_every": 4900,
        "measure.bulk_sharpness": 2,
    },
    "ci": raised_rate.CI,
}
GRIDS = {
    "cpu": [
        {
            "subspace.refresh_every": (10, 50, 200, 1000),
            "optimizer.drop_factor": (1.0, 16.0, 64.0, 256.0),
        },
        {"subspace.refresh_every": (1,), "optimizer.drop_factor": (1.0,)},
    ],
    "ci": {"subspace.refresh_every": (5, 30), "optimizer.drop_factor": (1.0, 64.0)},
}
