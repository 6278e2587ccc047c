"""P1-E4: is it the gradient's noise that aligns it? (Sec. 4)

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/noise_off

The MLP of figure 1: SGD until it has aligned, gradient descent with the same learning
rate for 500 steps, and SGD again for 1,000. Expected: chi_10 falls below 0.2 within 200
steps of gradient descent, and is above 0.9 again within 500 steps of SGD.

At SCALE=cpu it took 5 minutes on two shared AMD EPYC cores. P1-E4 MLP: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "SGD to GD and back: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 5500
    config.noise_free_steps = (4000, 4500)
    config.switch.step = 1
    config.modes = ("plain",)
    config.subspace.refresh_every = 0
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


SCALES = {"ci": {**small.MLP, "noise_free_steps": (20, 40)}}
