"""P1-E10 and P1-R7: cross-entropy, with Bulk (Fig. 14).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/cross_entropy

The MLP of figure 1 with cross-entropy. Expected: after the switch Dom-SGD's loss rises,
while SGD and Bulk-SGD learn.

At SCALE=cpu it took 86 seconds on two shared AMD EPYC cores. P1-E10 MLP: partly; P1-R7
MLP: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Cross-entropy: MLP on MNIST-5k"
    config.seeds = 3
    config.task.loss = "cross_entropy"
    config.subspace.refresh_every = 0
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 10
    return config


# lambda_10 / lambda_11 is 1.0 at first: a solve takes 180 products. In so many steps
# the rule of the switch is not met: the average of chi_10 reaches 0.9.
SCALES = {
    "cpu": {
        "seeds": 1,
        "steps": 6000,
        "switch.step": 3000,
        "subspace.num_examples": 500,
        "subspace.min_interval": 50,
    },
    "ci": small.MLP_BY_RULE,
}
