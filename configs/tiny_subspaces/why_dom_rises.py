"""P1-R8: why does Dom-SGD's loss rise? (asked by the paper's reviewers)

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/why_dom_rises

The MLP of figure 1 with cross-entropy, whose loss rises under Dom-SGD. From one state,
Dom with SGD's noise and without it (full-batch gradients), the basis tracked and frozen
at the switch (`every(n)` refreshes at the switch alone, as n is its step). Logged
beside the loss: <g, P Delta> and (P Delta)^T H (P Delta) / 2, what the step does to
first and to second order. Expected: without noise Dom does not rise, so that the noise,
and not the projection, is the cause.

At SCALE=cpu it took 3 minutes on two shared AMD EPYC cores. P1-R8: partly.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small

_SWITCH = 3000


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Why Dom-SGD rises: MLP on MNIST-5k, cross-entropy"
    config.seeds = 3
    config.task.loss = "cross_entropy"
    config.steps = 2 * _SWITCH
    config.switch.step = _SWITCH
    config.modes = ("dom",)
    config.measure.descent = 1
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


def _grid(switch: int) -> dict[str, tuple]:
    return {
        "noise_free_steps": ((), (switch, 2 * switch + 1)),
        "subspace.refresh_every": (0, switch),
    }


def get_grid() -> dict[str, tuple]:
    return _grid(_SWITCH)


SCALES = {
    "cpu": {
        "seeds": 1,
        "steps": 3000,
        "switch.step": 1500,
        "subspace.num_examples": 500,
        "subspace.min_interval": 50,
    },
    "ci": {**small.MLP, "switch.step": 30},
}
GRIDS = {
    "cpu": _grid(1500),
    "ci": {"noise_free_steps": ((), (30, 61)), "subspace.refresh_every": (5, 30)},
}
