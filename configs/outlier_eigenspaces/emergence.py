"""P3-E2: outliers leave the bulk, above a threshold.

    make reproduce EXPERIMENTS=outlier_eigenspaces/emergence

As logistic.py at signal-to-noise ratios of 1 to 100, from x = 0, where random-matrix
theory has closed forms, on the test set, with five eigenvalues more. Expected: at the
start the outliers are where theory has them, and there are none below its threshold,
10 sqrt(d / M).

At SCALE=cpu it took 2 minutes on one shared AMD EPYC core. P3-E2: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.logistic()
    config.title = "Outliers and the signal-to-noise ratio, from x = 0"
    # What is judged is that of x = 0 and of fixed examples, the same for all seeds.
    config.seeds = 1
    config.task.init_scale = 0.0
    # The ratio 5 is above the threshold, 2.2, far enough for a gap.
    config.task.num_test = 20_000
    config.blocks.splits = ("test",)
    config.blocks.matrices = ("hessian",)
    config.blocks.num_more = 5
    return config


def get_grid() -> dict[str, tuple]:
    return {"task.snr": (1.0, 5.0, 10.0, 30.0, 100.0)}


SCALES = {
    "cpu": {**mixtures.lasting(500, 50, 5), "task.num_test": 10_000},
    "ci": mixtures.LITTLE_LOGISTIC,
}
GRIDS = {"ci": {"task.snr": (10.0, 100.0)}}
