"""P3-E3: the outliers' eigenvectors are combinations of the class means.

    make reproduce EXPERIMENTS=outlier_eigenspaces/class_means

As logistic.py at the ratio 100, with five eigenvectors more, of orthonormal and of
general means. Expected: the ten leading eigenvectors of each block lie in the span of
the means, the next five do not.

At SCALE=cpu it took 2 minutes on one shared AMD EPYC core. P3-E3: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.logistic()
    config.title = "Eigenvectors and class means"
    config.seeds = 3
    config.blocks.splits = ("test",)
    config.blocks.num_more = 5
    return config


def get_grid() -> dict[str, tuple]:
    return {"task.means": ("orthonormal", "general")}


SCALES = {
    "cpu": {**mixtures.lasting(500, 50, 1), "task.num_test": 5000},
    "ci": mixtures.LITTLE_LOGISTIC,
}
