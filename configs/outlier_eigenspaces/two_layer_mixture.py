"""P3-E10: two layers on ten components. Not a setting with a proof.

    make reproduce EXPERIMENTS=outlier_eigenspaces/two_layer_mixture

Twenty neurons on the mixture of logistic.py, with an output row a neuron.

At SCALE=cpu it took a minute on one shared AMD EPYC core. P3-E10: reported.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.logistic()
    config.title = "Two layers on ten components"
    config.seeds = 3
    config.task.model = "two_layer"
    config.task.num_hidden = 20
    config.blocks.splits = ("test",)
    config.blocks.matrices = ("hessian",)
    return config


SCALES = {
    "cpu": {**mixtures.lasting(500, 50, 5), "task.num_test": 5000},
    "ci": {**mixtures.LITTLE_LOGISTIC, "task.num_hidden": 6},
}
