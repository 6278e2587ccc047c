"""P1-E2 and P1-E13, Muon: its gradient never aligns, says an independent replication.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/muon

The MLP of figure 1 with Muon (momentum 0.95) at the learning rates 0.001 and 0.02 (the
replication's is not known), with the rule of the switch, which it should never meet;
and at 0.02 with a switch at step 2,000.

At SCALE=cpu it took 6 minutes on two shared AMD EPYC cores. P1-E2 Muon: reproduced;
P1-E13 Muon: partly.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Muon: MLP on MNIST-5k"
    config.seeds = 3
    config.optimizer.name = "muon"
    config.optimizer.momentum = 0.95
    config.optimizer.learning_rate = 0.02
    config.subspace.refresh_every = 0
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 10
    return config


_BY_RULE = {"optimizer.learning_rate": (0.001, 0.02), "switch.step": (0,)}


def get_grid() -> list[dict[str, tuple]]:
    return [_BY_RULE, {"switch.step": (2000,)}]


SCALES = {
    "cpu": {
        "seeds": 1,
        "steps": 2000,
        "subspace.num_examples": 500,
        "subspace.min_interval": 10,
    },
    "ci": small.MLP,
}
GRIDS = {
    "cpu": [_BY_RULE, {"switch.step": (1000,)}],
    "ci": {"switch.step": (0, 30)},
}
