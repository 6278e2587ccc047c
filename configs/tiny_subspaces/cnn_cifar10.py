"""P1-E1, CNN: "Does SGD really happen in tiny subspaces?", figure 1, on CIFAR10-5k.

    TFDS_DATA_DIR=... make train CONFIG=configs/tiny_subspaces/cnn_cifar10.py

The paper's setting: two 3x3 convolutions of 32 channels, each with ReLU and a 2x2
max-pool, and a linear layer, PyTorch-default initialization; the first 5,000 training
images, each pixel standardized by the whole split; half the summed squared error, SGD
with batch 50 and learning rate 0.001, k = 10. The images are the first ones in
tensorflow-datasets' order, its own shuffle.

At SCALE=cpu it took 7 minutes on two shared AMD EPYC cores. P1-E1 CNN: partly; P1-E2
CNN: no verdict; P1-E3 CNN, P1-R1 CNN: reproduced.
"""

import ml_collections

from configs import defaults
from configs.tiny_subspaces import small


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.title = "Does SGD really happen in tiny subspaces? CNN on CIFAR10-5k"
    set_task(config)
    # Criteria of ours, wider than the MLP's: these tasks learn more slowly.
    config.claims.plain.max_ratio = config.claims.bulk.max_ratio = 0.93
    return config


def set_task(config: ml_collections.ConfigDict) -> None:
    """Put the CNN and its images in the place of another experiment's task."""
    config.task.dataset = "cifar10"
    config.task.num_train = 5000
    config.task.model = "cnn"
    config.task.hidden_sizes = None
    config.optimizer.learning_rate = 0.001
    # Bounds the memory of activations and of patches, on a CPU, in full passes.
    config.examples_at_once = 2500


SCALES = {
    "paper": {"seeds": 3},
    "cpu": {
        "steps": 2000,
        "switch.step": 800,
        "subspace.num_examples": 250,
        "subspace.refresh_every": 100,
        "log_every": 100,
        "checkpoint_every": 500,
    },
    "ci": small.CNN,
}

# Of the experiments that take other losses or optimizers, on two cores.
SHORT = {
    **SCALES["cpu"],
    "seeds": 1,
    "steps": 1200,
    "switch.step": 600,
    "task.num_train": 1000,
}
