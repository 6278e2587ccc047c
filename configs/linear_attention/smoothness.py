"""P5-E5: the loss is more bent where the gradient is larger.

    make reproduce EXPERIMENTS=linear_attention/smoothness

Adam in setting 1, 2,000 steps. Expected: a positive trend of the smoothness along the
steps with the gradient's norm, both logarithmic.

At SCALE=cpu it took a minute on one shared AMD EPYC core. P5-E5: reproduced.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Smoothness and the gradient's norm"
    config.optimizer.update({"name": "adam", "momentum": 0.0, "b2": 0.9})
    config.steps = 2000
    config.log_every = 10
    config.checkpoint_every = 500
    config.measure.smoothness = 1
    return config


SCALES: dict = {"cpu": {}, "ci": settings.LITTLE}
