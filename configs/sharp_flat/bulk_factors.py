"""P2: how far can the bulk be accelerated? Phase diagram in (bulk factor, rate); ours.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/bulk_factors

The setting of raised_rate.py; updates at the raised rate are weighed by 1 in the
dominant space and by the factor in the bulk. Expected: on a quadratic the edge is at
the smaller of 2 / lambda_1 and 2 / (factor x lambda_{k+1}), so that it falls as one
over the factor where that exceeds lambda_1 / lambda_{k+1}.

At SCALE=cpu it took 4 minutes on one shared AMD EPYC core. P2 factor edge, P2 bulk
factor: reproduced.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "The bulk factor: MLP on MNIST-5k"
    config.modes = ("plain", "interpolated")
    return config


def get_grid() -> dict[str, tuple]:
    return {
        "projection.bulk": (1.0, 2.0, 4.0, 8.0, 16.0),
        "optimizer.drop_factor": (1.0, 2.0, 4.0, 8.0),
    }


SCALES = {"cpu": raised_rate.CPU_AT_SWITCH, "ci": raised_rate.CI}
GRIDS = {
    "cpu": {
        "projection.bulk": (1.0, 4.0, 16.0, 64.0),
        "optimizer.drop_factor": (1.0, 4.0, 8.0, 32.0),
    },
    "ci": {"projection.bulk": (1.0, 16.0), "optimizer.drop_factor": (1.0, 8.0)},
}
