"""P1-E13, transformer: Dom and Bulk with momentum and with Adam (App. F).

    TFDS_DATA_DIR=... make reproduce \
        EXPERIMENTS=tiny_subspaces/momentum_adam_transformer

As momentum_adam.py with the transformer of figure 1, at its learning rate 0.001.

At SCALE=cpu it took 6 minutes on two shared AMD EPYC cores. P1-E13 transformer: partly.
"""

import ml_collections

from configs.tiny_subspaces import momentum_adam, small, transformer_sst2


def get_config() -> ml_collections.ConfigDict:
    config = momentum_adam.get_config()
    config.title = "Momentum and Adam: transformer on SST2-1k"
    transformer_sst2.set_task(config)
    return config


get_grid = momentum_adam.get_grid

SCALES = {"cpu": transformer_sst2.SHORT, "ci": small.TRANSFORMER}
GRIDS = {
    "cpu": momentum_adam.AT_ONE_RATE,
    "ci": momentum_adam.OPTIMIZERS[:1],
}
