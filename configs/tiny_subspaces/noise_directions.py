"""P1-R10: is the noise larger in sharp directions? (asked by the paper's reviewers)

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/noise_directions

The MLP of figure 1 under SGD: v^T Cov(g_B) v along the top 20 eigenvectors of the
Hessian and along 20 random directions, each 500 steps. Expected: at least ten times as
large along the eigenvectors, and growing with the eigenvalue.

At SCALE=cpu it took 4 minutes on two shared AMD EPYC cores. P1-R10: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "The noise along eigenvectors: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 10_000
    config.switch.step = 1
    config.modes = ("plain",)
    config.subspace.k = 20
    config.subspace.refresh_every = 500
    config.log_every = 500
    config.measure.noise = 1
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


SCALES = {"cpu": {"steps": 2000}, "ci": small.MLP}
