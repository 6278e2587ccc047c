"""P1-E1, transformer: "Does SGD really happen in tiny subspaces?", fig. 1, on SST2-1k.

    TFDS_DATA_DIR=... make train CONFIG=configs/tiny_subspaces/transformer_sst2.py

The paper's setting: two post-norm encoder layers of width 64, 8 heads, 2,048 hidden
units with ReLU, no dropout, the mean over all positions, PyTorch-default
initialization; the first 1,000 training sentences; half the summed squared error, SGD
with batch 50 and learning rate 0.001, k = 2. Two differences: the sentences are the
first ones in tensorflow-datasets' order, its own shuffle; and the WordPiece vocabulary
is one trained on them, unless task.vocabulary names the file of BERT's.

At SCALE=cpu it took 13 minutes on two shared AMD EPYC cores. P1-E1 transformer: partly;
P1-E2 transformer: no verdict; P1-E3 transformer, P1-R1 transformer: reproduced.
"""

import ml_collections

from configs import defaults
from configs.tiny_subspaces import small


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.title = "Does SGD really happen in tiny subspaces? Transformer on SST2-1k"
    set_task(config)
    # Criteria of ours, wider than the MLP's: these tasks learn more slowly.
    config.claims.plain.max_ratio = config.claims.bulk.max_ratio = 0.85
    return config


def set_task(config: ml_collections.ConfigDict) -> None:
    """Put the transformer and its sentences in the place of another task."""
    config.task.dataset = "sst2"
    config.task.num_train = 1000
    config.task.model = "transformer"
    config.task.hidden_sizes = None
    config.task.pool = "all"
    config.optimizer.learning_rate = 0.001
    config.subspace.k = 2
    # Bounds the memory of activations in full passes.
    config.examples_at_once = 250


SCALES = {
    "paper": {"seeds": 3},
    "cpu": {
        "steps": 1000,
        "switch.step": 400,
        "subspace.num_examples": 100,
        "subspace.refresh_every": 100,
        "log_every": 100,
        "checkpoint_every": 500,
    },
    "ci": small.TRANSFORMER,
}

# Of the experiments that take other optimizers, on two cores.
SHORT = {
    **SCALES["cpu"],
    "seeds": 1,
    "steps": 300,
    "switch.step": 150,
    "task.num_train": 200,
    "subspace.num_examples": 50,
}
