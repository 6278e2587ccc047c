"""P3-E1, P3-E4: each class aligns with the outliers of its block.

    make reproduce EXPERIMENTS=outlier_eigenspaces/logistic

Logistic regression on a mixture of ten components (mixtures.py), signal-to-noise ratios
10 and 100. Expected: x^c comes to lie in the top-10 space of H_cc and of Gamma_cc, of
two independent sets that no step sees, up to a term that falls with the ratio; with the
first eigenvector alone its cosine is sqrt(9/10).

At SCALE=cpu it took 5 minutes on one shared AMD EPYC core. P3-E1, P3-E4: reproduced.
"""

import ml_collections

from configs.outlier_eigenspaces import mixtures


def get_config() -> ml_collections.ConfigDict:
    config = mixtures.logistic()
    config.title = "Logistic regression on ten components"
    config.seeds = 3
    config.measure.block_density = 1
    return config


def get_grid() -> dict[str, tuple]:
    return {"task.snr": (10.0, 100.0)}


SCALES = {
    "cpu": mixtures.lasting(500, 50, 5),
    "ci": mixtures.LITTLE_LOGISTIC,
}
