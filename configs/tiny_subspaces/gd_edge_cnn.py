"""P1-E6 and P1-R9, CNN: gradient descent at the edge of stability (Fig. 9).

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/gd_edge_cnn

As gd_edge.py with the CNN of figure 1, learning rate 0.02 (ours): lambda_1 is near
2/lr = 100 from the start.

At SCALE=cpu it took 4 minutes on two shared AMD EPYC cores. P1-E6 CNN: reproduced;
P1-R9 CNN: no verdict.
"""

import ml_collections

from configs.tiny_subspaces import cnn_cifar10, gd_edge, small


def get_config() -> ml_collections.ConfigDict:
    config = gd_edge.get_config()
    config.title = "The edge of stability: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    config.optimizer.learning_rate = 0.02
    config.steps = 2000
    return config


SCALES = {
    "cpu": {
        "seeds": 1,
        "task.num_train": 100,
        "steps": 1000,
        "subspace.refresh_every": 20,
        "log_every": 20,
        "checkpoint_every": 500,
    },
    "ci": small.CNN,
}
