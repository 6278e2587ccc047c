"""P2, ours: does it pay, on a GPT? Time to a loss on tiny shakespeare.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/time_to_loss_gpt

As time_to_loss.py with a GPT of four layers of width 128 and a context of 64 on the
first 5,000 windows, cross-entropy, k = 10, each optimizer with its own learning rates.

At SCALE=cpu it took 19 minutes on one shared AMD EPYC core. P2 steps, GPT: partly. P2
time, GPT: not reproduced.
"""

import ml_collections

from configs.sharp_flat import time_to_loss
from configs.tiny_subspaces import small


def get_config() -> ml_collections.ConfigDict:
    config = time_to_loss.get_config()
    config.title = "Does it pay? GPT on tiny shakespeare"
    config.task.dataset = "tiny_shakespeare"
    config.task.model = "gpt"
    config.task.hidden_sizes = None
    config.task.loss = "cross_entropy"
    config.examples_at_once = 500
    return config


OPTIMIZERS = time_to_loss.with_rates((0.1, 0.3, 1.0), (3e-4, 1e-3, 3e-3))


def get_grid() -> list[time_to_loss.Fields]:
    return time_to_loss.grid_of(OPTIMIZERS, time_to_loss.WEIGHTS, time_to_loss.TRACKERS)


_TRACKER: time_to_loss.Fields = {
    "subspace.refresh_every": (50,),
    "subspace.num_examples": (25,),
}
SCALES = {
    "cpu": {
        "task.num_train": 1000,
        "task.width": 32.0,
        "task.num_layers": 2,
        "steps": 300,
        "switch.step": 50,
        "subspace.num_examples": 25,
        "subspace.min_interval": 25,
        "checkpoint_every": 300,
    },
    "ci": {
        **small.TRANSFORMER_AT_ONCE,
        "task.vocabulary_size": None,
        "task.num_hidden": None,
        "task.context": 8,
        "switch.step": 20,
        "subspace.num_examples": 60,
        "subspace.k": 3,
    },
}
GRIDS = {
    # 8 runs of SGD and of Adam, 6 of SAM and of Muon.
    "cpu": time_to_loss.few_of((0.3, 1.0), (1e-3, 3e-3), 3e-3, _TRACKER),
    "ci": time_to_loss.GRIDS["ci"],
}
