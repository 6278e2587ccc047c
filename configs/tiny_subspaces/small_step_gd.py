"""P1-E9: gradient descent with a small step does not align (App. D.1).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/small_step_gd

The MLP of figure 1, full batches, at SGD's learning rate 0.01, where lambda_1 stays far
below 2/lr = 200. Expected: chi_10 below 0.1 (in the median from step 1,000 on).

At SCALE=cpu it took 2 minutes on two shared AMD EPYC cores. P1-E9: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Gradient descent with a small step: MLP on MNIST-5k"
    config.seeds = 3
    config.optimizer.name = "gd"
    config.steps = 20_000
    config.switch.step = 1
    config.modes = ("plain",)
    config.subspace.refresh_every = 0
    config.log_every = 50
    config.measure.sharpness = 1
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


SCALES = {"cpu": {"seeds": 1, "steps": 3000}, "ci": small.MLP}
