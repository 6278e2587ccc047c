"""P3-E5, P3-E6: two layers on XOR, each layer in its own outlier space.

    make reproduce EXPERIMENTS=outlier_eigenspaces/xor

Twenty neurons (mixtures.py), signal-to-noise ratios 100 and 1,000. Expected: each row
W_i comes to lie in the top-2 space of its block, and v in the top-4 space of the output
layer's.

At SCALE=cpu it took 13 minutes on one shared AMD EPYC core. P3-E5, P3-E6: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.xor()
    config.title = "Two layers on XOR, twenty neurons"
    config.seeds = 3
    config.blocks.splits = ("test",)
    config.blocks.num_more = 2
    config.measure.components = 1
    return config


def get_grid() -> dict[str, tuple]:
    return {"task.snr": (100.0, 1000.0)}


SCALES = {
    "cpu": mixtures.lasting(500, 60, 12),
    "ci": mixtures.LITTLE_XOR,
}
