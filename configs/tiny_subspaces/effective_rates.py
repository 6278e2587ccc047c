"""P1-E8 and P1-R4: effective learning rates in and out of the dominant space (Table 1).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/effective_rates

The MLP of figure 1 for 1,000 steps of SGD, of heavy ball (0.9) and of Adam (0.001), the
rates logged at each step. Expected: SGD has its learning rate in both spaces; momentum
has about ten times its rate in the bulk and half of it in the dominant space.

At SCALE=cpu it took 4 minutes on two shared AMD EPYC cores. P1-E8 MLP: partly; P1-R4
MLP: reported.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Effective learning rates: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 1000
    config.switch.step = 1
    config.modes = ("plain",)
    config.subspace.refresh_every = 10
    config.log_every = 1
    config.checkpoint_every = 1000
    config.measure.effective_rates = 1
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


_OPTIMIZERS = [
    {"optimizer.name": ("sgd",)},
    {"optimizer.name": ("heavy_ball",), "optimizer.momentum": (0.9,)},
    {"optimizer.name": ("adam",), "optimizer.learning_rate": (1e-3,)},
]


def get_grid() -> list[dict[str, tuple]]:
    return _OPTIMIZERS


SCALES = {
    "cpu": {"seeds": 1, "subspace.num_examples": 1000},
    "ci": {**small.MLP, "log_every": 1},
}
GRIDS = {"ci": _OPTIMIZERS[:2]}
