"""P2-E8: a k that follows the gap, with hysteresis.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/adaptive_k

The MLP of figure 1; 20 vectors are tracked, and the projection leaves out the leading k
of them, k where lambda_i / lambda_{i+1} is largest. Expected: k settles within one of
the number of classes, 10, for at least 80 % of the steps.

At SCALE=cpu it took 2 minutes on one shared AMD EPYC core. P2-E8: reproduced.
"""

import ml_collections

from configs.sharp_flat import energies
from configs.tiny_subspaces import mlp_mnist


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "A dimension that follows the gap: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 6000
    config.switch.step = 3000
    config.subspace.k = 20
    config.subspace.adaptive_k = True
    config.subspace.refresh_every = 50
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


SCALES = {
    "cpu": energies.SCALES["cpu"],
    "ci": {**energies.SCALES["ci"], "subspace.k": 4, "log_every": 5},
}
