"""P1-E13: Dom and Bulk with momentum and with Adam (App. F).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/momentum_adam

The MLP of figure 1 with heavy ball (0.9) and with Adam (0.001 and 0.0001); what is
projected is the update, while the buffers see raw gradients. Adam may not meet the rule
of the switch (at 0.001 it had not after 2,000 steps): it switches at step 2,000.
Expected: as in figure 1.

At SCALE=cpu it took 5 minutes on two shared AMD EPYC cores. P1-E13 MLP: partly.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Momentum and Adam: MLP on MNIST-5k"
    config.seeds = 3
    config.subspace.refresh_every = 0
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 10
    return config


_HEAVY_BALL = {"optimizer.name": ("heavy_ball",), "optimizer.momentum": (0.9,)}
_ADAM = {"optimizer.name": ("adam",), "optimizer.learning_rate": (1e-3, 1e-4)}

# For a scale that switches at a step.
OPTIMIZERS = [_HEAVY_BALL, _ADAM]
AT_ONE_RATE = [_HEAVY_BALL, {**_ADAM, "optimizer.learning_rate": (1e-3,)}]


def get_grid() -> list[dict[str, tuple]]:
    return [_HEAVY_BALL, {**_ADAM, "switch.step": (2000,)}]


# Steps of Adam turn the basis at once: at first it would be refreshed at each one.
SCALES = {
    "cpu": {
        "seeds": 1,
        "steps": 2000,
        "subspace.num_examples": 500,
        "subspace.min_interval": 5,
    },
    "ci": small.MLP_BY_RULE,
}
GRIDS = {
    "cpu": [_HEAVY_BALL, {**_ADAM, "switch.step": (1000,)}],
    "ci": OPTIMIZERS[:1],
}
