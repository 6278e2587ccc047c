"""P2-E6: interpolated updates, from Dom-SGD to Bulk-SGD and beyond.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/interpolation

SGD on the MLP of figure 1 until step 3,000, then 3,000 steps with the dominant part of
each update weighed by alpha and the bulk by gamma: along the path alpha = 1 - s, gamma
= s, and on a grid of both. Expected: the loss at the end falls from Dom (s = 0) to Bulk
(s = 1).

At SCALE=cpu it took 4 minutes on one shared AMD EPYC core. P2-E6 path: reproduced.
P2-E6 grid: partly.
"""

import ml_collections

from configs.sharp_flat import raised_rate


def get_config() -> ml_collections.ConfigDict:
    config = raised_rate.get_config()
    config.title = "Interpolated updates: MLP on MNIST-5k"
    config.modes = ("plain", "interpolated")
    config.log_every = 10
    return config


_PATH = [
    {"projection.dom": (1 - s,), "projection.bulk": (s,)}
    for s in (0.0, 0.25, 0.5, 0.75, 1.0)
]


def get_grid() -> list[dict[str, tuple]]:
    factors = {
        "projection.dom": (0.0, 0.5, 1.0, 1.5),
        "projection.bulk": (0.5, 1.0, 2.0, 4.0),
    }
    return [*_PATH, factors]


SCALES = {"cpu": raised_rate.CPU_AT_SWITCH, "ci": raised_rate.CI}
GRIDS = {
    "ci": [*_PATH[:1], {"projection.dom": (0.0, 0.5), "projection.bulk": (1.0, 2.0)}],
}
