"""P5-E7: eight layers, d = 20, 60 pairs.

    make reproduce EXPERIMENTS=linear_attention/deep

Setting 1, larger. Expected: as there, Adam's loss ends below SGD's. Two learning rates
for each optimizer, those of depths.py, the best of each compared.

At SCALE=cpu it took 2 minutes on one shared AMD EPYC core. P5-E7: reproduced.
"""

import ml_collections

from configs.linear_attention import depths, settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Eight layers, d = 20"
    config.task.num_layers = 8
    config.task.dimension = 20
    config.task.context = 60
    return config


def get_grid() -> list[settings.Fields]:
    return [
        {**fields, "optimizer.learning_rate": depths.RATES}
        for fields in settings.optimizers(0.02, 0.02)
    ]


SCALES: dict = {
    "cpu": {"seeds": 1, "steps": 800, "batch_size": 200, "task.num_train": 200},
    "ci": settings.LITTLE,
}
