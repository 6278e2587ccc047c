"""P1-E4, CNN: is it the gradient's noise that aligns it? (Sec. 4)

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/noise_off_cnn

As noise_off.py with the CNN of figure 1, which aligns later: gradient descent from step
10,000 on. Expected: chi_10 falls below 0.2 within 200 steps of gradient descent, and is
above 0.9 again within 500 steps of SGD.

At SCALE=cpu it took 6 minutes on two shared AMD EPYC cores. P1-E4 CNN: partly.
"""

import ml_collections

from configs.tiny_subspaces import cnn_cifar10, noise_off, small


def get_config() -> ml_collections.ConfigDict:
    config = noise_off.get_config()
    config.title = "SGD to GD and back: CNN on CIFAR10-5k"
    cnn_cifar10.set_task(config)
    config.steps = 11_500
    config.noise_free_steps = (10_000, 10_500)
    return config


# A tenth of the images, aligned or not.
SCALES = {
    "cpu": {
        "seeds": 1,
        "task.num_train": 500,
        "subspace.num_examples": 250,
        "subspace.refresh_every": 50,
        "steps": 3000,
        "noise_free_steps": (2000, 2250),
        "log_every": 50,
        "checkpoint_every": 500,
    },
    "ci": {**small.CNN_AT_ONCE, "noise_free_steps": (20, 40)},
}
