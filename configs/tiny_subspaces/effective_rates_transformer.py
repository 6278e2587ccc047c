"""P1-E8 and P1-R4, transformer: effective learning rates in both spaces (Table 1).

    TFDS_DATA_DIR=... make reproduce \
        EXPERIMENTS=tiny_subspaces/effective_rates_transformer

As effective_rates.py with the transformer of figure 1, at its learning rate 0.001.

At SCALE=cpu it took 5 minutes on two shared AMD EPYC cores. P1-E8 transformer: partly;
P1-R4 transformer: reported.
"""

import ml_collections

from configs.tiny_subspaces import effective_rates, small, transformer_sst2


def get_config() -> ml_collections.ConfigDict:
    config = effective_rates.get_config()
    config.title = "Effective learning rates: transformer on SST2-1k"
    transformer_sst2.set_task(config)
    return config


get_grid = effective_rates.get_grid

SCALES = {
    "cpu": {
        "seeds": 1,
        "task.num_train": 100,
        "steps": 120,
        "subspace.refresh_every": 40,
        "log_every": 5,
        "checkpoint_every": 120,
    },
    "ci": {**small.TRANSFORMER_AT_ONCE, "log_every": 1},
}
GRIDS = {"ci": get_grid()[:2]}
