"""P2, ours: a cap on the bulk's step at its measured edge (`dominant.cap_bulk`).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/guard

The MLP of figure 1, SGD at 0.01 until step 3,000, then 3,000 steps of Bulk-SGD at 4 to
256 times the rate, without a cap and capped at the whole and at half of the edge,
2 / lambda_{k+1}, as the tracker bounds it, which is from below. Expected: at rates at
which Bulk-SGD fails, the capped ones learn.

At SCALE=cpu it took 5 minutes on one shared AMD EPYC core. P2 guard: reproduced.
"""

import ml_collections

from configs.sharp_flat import raised_rate
from configs.tiny_subspaces import small


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "A cap at the bulk's edge: MLP on MNIST-5k"
    # One rate all along: it is the bulk's weight that raises it.
    config.optimizer.update(
        {"schedule": "constant", "drop_steps": (), "drop_factor": 0.1}
    )
    config.modes = ("interpolated",)
    config.projection.dom = 0.0
    return config


def get_grid() -> dict[str, tuple]:
    return {
        "projection.bulk": (4.0, 16.0, 64.0, 256.0),
        "projection.cap_bulk": (0.0, 1.0, 0.5),
    }


SCALES = {
    "cpu": small.without(raised_rate.CPU, "optimizer."),
    "ci": small.without(raised_rate.CI, "optimizer.drop_"),
}
GRIDS = {"ci": {"projection.bulk": (4.0, 256.0), "projection.cap_bulk": (0.0, 1.0)}}
