"""P1-R3: all 60,000 images of MNIST, streamed (asked by the paper's reviewers).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/full_data

The MLP of figure 1 on the whole training set, which stays in host memory; the curvature
is that of the first 5,000 images, and the switch comes at step 3,000, since the rule
would ask for the full gradient at each step. Expected: the order of figure 1's curves.

At SCALE=cpu it took 2 minutes on two shared AMD EPYC cores. P1-R3: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "All of MNIST: MLP"
    config.task.num_train = 0
    config.task.streamed = True
    config.examples_at_once = 5000
    config.subspace.num_examples = 5000
    config.subspace.refresh_every = 0
    config.switch.step = 3000
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 10
    return config


SCALES = {
    "cpu": {"steps": 7000, "subspace.num_examples": 1000, "log_every": 100},
    "ci": {
        **small.MLP,
        "task.streamed": True,
        "examples_at_once": 50,
        "subspace.num_examples": 60,
        "switch.step": 20,
    },
}
