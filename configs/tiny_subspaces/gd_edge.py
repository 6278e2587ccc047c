"""P1-E6 and P1-R9: gradient descent at the edge of stability (Fig. 9).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/gd_edge

The MLP of figure 1, full batches, learning rate 0.1: lambda_1 reaches 2/lr = 20 after
about 300 steps. Expected: no alignment before, chi_10 > 0.9 within 200 steps from
there; after the switch GD's sharpness stays at the edge, Dom-GD stalls, and Bulk-GD
learns as fast as GD, with lambda_11 below the edge while lambda_1 may be beyond it.

At SCALE=cpu it took 6 minutes on two shared AMD EPYC cores. P1-E6 MLP, P1-R9 MLP:
reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "The edge of stability: MLP on MNIST-5k"
    config.seeds = 3
    config.optimizer.name = "gd"
    config.optimizer.learning_rate = 0.1
    config.steps = 3000
    config.subspace.refresh_every = 1
    config.log_every = 10
    config.measure.sharpness = 1
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


SCALES = {
    # At the edge the basis turns at each step, to and fro: an adaptive policy would
    # refresh it every other step, 12 products a step.
    "cpu": {
        "seeds": 1,
        "task.num_train": 2000,
        "subspace.refresh_every": 20,
        "log_every": 20,
    },
    "ci": small.MLP_BY_RULE,
}
