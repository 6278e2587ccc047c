"""P1-R2: does the alignment follow the noise? (asked by the paper's reviewers)

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/batch_size

The MLP of figure 1 with batches of 10 to all 5,000 examples, at one learning rate, far
below the edge of stability (0.01; 2/lr = 200). Expected: chi_10, averaged over the
second half, falls as batches grow, and is below 0.1 without noise.

At SCALE=cpu it took 4 minutes on two shared AMD EPYC cores. P1-R2: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "The batch size: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 6000
    config.switch.step = 1
    config.modes = ("plain",)
    config.subspace.refresh_every = 0
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


def get_grid() -> dict[str, tuple]:
    return {"batch_size": (10, 50, 250, 1000, 5000)}


SCALES = {
    "cpu": {"seeds": 1, "steps": 3000, "subspace.num_examples": 1000},
    "ci": small.MLP,
}
GRIDS = {"ci": {"batch_size": (10, 100)}}
