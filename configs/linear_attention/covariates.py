"""P5-E8: light and heavy tails of the covariates.

    make reproduce EXPERIMENTS=linear_attention/covariates

Covariates on the unit sphere, and with norms of the square root of a Gamma variable of
the same mean square. Expected: with heavy tails a larger ratio of the condition numbers
of SGD and of Adam. The learning rates on the sphere are those of the published code.

At SCALE=cpu it took 8 minutes on one shared AMD EPYC core. P5-E8: reproduced.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Light and heavy tails"
    config.measure.conditioning = 5
    return config


def get_grid() -> list[settings.Fields]:
    sphere = {"task.covariates": ("sphere",), "optimizer.clip_norm": (0.1,)}
    gamma = {"task.covariates": ("gamma",), "optimizer.clip_norm": (1.0,)}
    return [
        *({**sphere, **fields} for fields in settings.optimizers(5.0, 0.1)),
        *({**gamma, **fields} for fields in settings.optimizers(0.02, 0.02)),
    ]


SCALES: dict = {
    "cpu": {"steps": 2500},
    "ci": {**settings.LITTLE, "measure.conditioning": 1},
}
