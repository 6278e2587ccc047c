"""P3-E8: what is missing to full alignment, by the signal-to-noise ratio.

    make reproduce EXPERIMENTS=outlier_eigenspaces/snr_sweep

As logistic.py at ratios of 1 to 100, from x = 0, on the test set. There outliers leave
the bulk at a ratio of k sqrt(d / M), about 3.2. Expected: above, 1 - alignment at the
end falls as one over the ratio.

At SCALE=cpu it took 3 minutes on one shared AMD EPYC core. P3-E8: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.logistic()
    config.title = "The signal-to-noise ratio: logistic regression on ten components"
    config.seeds = 3
    config.task.init_scale = 0.0
    config.blocks.splits = ("test",)
    config.blocks.matrices = ("hessian",)
    return config


def get_grid() -> dict[str, tuple]:
    return {"task.snr": (1.0, 3.0, 5.0, 10.0, 30.0, 100.0)}


SCALES = {
    "cpu": {**mixtures.lasting(500, 50, 2), "task.num_test": 5000},
    "ci": mixtures.LITTLE_LOGISTIC,
}
GRIDS = {"ci": {"task.snr": (10.0, 100.0)}}
