"""P3-E9: the same with passes over a training set.

    make reproduce EXPERIMENTS=outlier_eigenspaces/multi_pass

As logistic.py at the ratio 100, one pass with fresh examples, and many over the fixed
training set, whose Hessian is the one looked at. Expected: qualitatively the same.

At SCALE=cpu it took a minute on one shared AMD EPYC core. P3-E9: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.logistic()
    config.title = "One pass and many: logistic regression on ten components"
    config.seeds = 3
    config.blocks.splits = ("train",)
    return config


def get_grid() -> dict[str, tuple]:
    return {"task.fresh": (True, False)}


SCALES = {
    "cpu": {
        **mixtures.lasting(500, 50, 10),
        # 12 passes and a half.
        "task.num_train": 2000,
        "task.num_test": 5000,
    },
    "ci": mixtures.LITTLE_LOGISTIC,
}
