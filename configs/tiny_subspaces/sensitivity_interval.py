"""Sensitivity, S1: how stale may the basis be?

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/sensitivity_interval

The MLP of figure 1 under SGD until step 2,000, then 2,000 steps of SGD, Dom-SGD and
Bulk-SGD, three seeds, the basis refreshed each 1 to 1,000 steps. Beside the losses the
angle to the exact space is measured. Nobody has published what an approximate basis
does to these algorithms; the paper's authors compute it anew at each step.

At SCALE=cpu it took 3 minutes on two shared AMD EPYC cores. S1: reported.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    """Return the setting of all sensitivity_*.py; they vary the basis alone."""
    config = mlp_mnist.get_config()
    config.title = "How stale may the basis be? MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 4000
    config.switch.step = 2000
    config.subspace.refresh_every = 10
    # No multiple of an interval: the angle is measured at all ages of a basis.
    config.log_every = 47
    config.checkpoint_every = 4700
    config.measure.exact = 2
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


def get_grid() -> dict[str, tuple]:
    return {"subspace.refresh_every": (1, 10, 50, 200, 1000)}


# On two cores: a narrower network, a fifth of the images, and shorter.
CPU = {
    "task.num_train": 1000,
    "task.hidden_sizes": (64, 64),
    "steps": 2400,
    "switch.step": 1200,
    "measure.exact": 4,
}
CI = {**small.MLP, "seeds": 2, "switch.step": 30}

SCALES = {"cpu": CPU, "ci": CI}
GRIDS = {
    "cpu": {"subspace.refresh_every": (20, 100, 1000)},
    "ci": {"subspace.refresh_every": (5, 30)},
}
