"""P3, ours: do the layers of a real network align with their own outliers?

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=outlier_eigenspaces/layers

The MLP of "Does SGD really happen in tiny subspaces?", figure 1, under SGD: for each
layer, how much of its parameters and of its gradient lies in the top-10 space of its
block of H and of Gamma on the training set (and, for the record, on the test set).

At SCALE=cpu it took 5 minutes on one shared AMD EPYC core. P3 layers: partly. P3
layers, parameters: not reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Layer by layer: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 6000
    config.switch.step = 1
    config.modes = ("plain",)
    config.examples_at_once = 5000
    config.subspace.refresh_every = 500
    config.log_every = 500
    config.checkpoint_every = 5000
    config.measure.spectrum = 0
    config.measure.blocks = 1
    config.blocks.num_more = 3
    return config


SCALES = {
    "cpu": {
        "task.num_train": 1000,
        "task.hidden_sizes": (64, 64),
        "steps": 4000,
    },
    "ci": {**small.MLP, "log_every": 20, "examples_at_once": 0},
}
