"""P5-E1, P5-E3, P5-E4: SGD and Adam on linear transformers.

    make reproduce EXPERIMENTS=linear_attention/optimizers

Settings 1 to 3 (settings.py), SGD with momentum 0.9 and Adam (both betas 0.9).
Expected: Adam's loss ends below SGD's, its robust condition number is smaller at steps
750 and 1,250, and so is the smoothness in the direction of its steps.

At SCALE=cpu it took 36 minutes on one shared AMD EPYC core. P5-E1, P5-E3, P5-E4:
partly.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "SGD and Adam on linear transformers"
    config.measure.smoothness = 1
    config.measure.conditioning = 5
    return config


get_grid = settings.all_settings

SCALES = {
    "cpu": {},
    "ci": {**settings.LITTLE, "measure.conditioning": 1},
}
GRIDS = {"ci": settings.all_settings()}
