"""P3-E7: how often does SGD find the optimal classifier, and does the spectrum tell?

    make reproduce EXPERIMENTS=outlier_eigenspaces/success

Four neurons on XOR, d = 250, ratio 1,000, a ridge of 0.05, T = 150: 800 seeds in one
program. Expected: all four clusters are served in 3/32 of the runs, and the output
layer's block has one outlier for each served cluster.

At SCALE=cpu it took 3 minutes on one shared AMD EPYC core. P3-E7, P3-E7 law, P3-E7
spectrum: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.xor()
    config.title = "Four neurons on XOR, 800 runs"
    config.seeds = 800
    config.task.num_hidden = 4
    config.task.snr = 1000.0
    config.task.num_train = 100
    config.task.num_test = 2000
    config.blocks.names = ("output",)
    config.blocks.splits = ("test",)
    config.measure.components = 1
    config.update_from_flattened_dict(mixtures.lasting(250, 150, 3))
    return config


SCALES = {"ci": {**mixtures.LITTLE, "seeds": 8}}
