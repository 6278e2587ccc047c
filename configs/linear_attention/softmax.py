"""P5-E6: softmax attention learns the same more slowly.

    make reproduce EXPERIMENTS=linear_attention/softmax

Adam in setting 1 with linear and with softmax attention, three learning rates each, the
best of each compared. Expected: the linear transformer's loss ends at half of the other
one's or less.

At SCALE=cpu it took 3 minutes on one shared AMD EPYC core. P5-E6: reproduced.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Linear and softmax attention"
    config.optimizer.update({"name": "adam", "momentum": 0.0, "b2": 0.9})
    return config


def get_grid() -> settings.Fields:
    return {
        "task.model": ("linear_transformer", "softmax_transformer"),
        "optimizer.learning_rate": (0.005, 0.02, 0.1),
    }


SCALES: dict = {"cpu": {"seeds": 2, "steps": 1000}, "ci": settings.LITTLE}
GRIDS = {
    "ci": {"task.model": ("linear_transformer", "softmax_transformer")},
}
