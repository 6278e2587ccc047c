"""P5 and P1, ours: in which space does Adam's advantage live?

    make reproduce EXPERIMENTS=linear_attention/spaces

Setting 1, SGD with momentum and Adam for 1,000 steps, and from there plain, Dom and
Bulk, k = 10 of the 150 dimensions, the basis of the 1,000 fixed prompts' Hessian.
Expected: Bulk goes on and Dom stalls with both; then Adam's advantage is in the bulk.

At SCALE=cpu it took 9 minutes on one shared AMD EPYC core. P5 spaces: partly.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "Dom and Bulk on a linear transformer"
    config.steps = 4000
    config.switch.step = 1000
    config.modes = ("plain", "dom", "bulk")
    config.subspace.k = 10
    config.subspace.refresh_every = 0
    config.measure.alignments = config.measure.certificate = config.measure.cost = 1
    return config


def get_grid() -> list[settings.Fields]:
    return settings.SETTINGS[0][1]


SCALES: dict = {
    "cpu": {
        "seeds": 3,
        "steps": 500,
        "switch.step": 250,
        # There is no gap at 10: a basis ten steps old is another one.
        "subspace.refresh_every": 1,
    },
    "ci": {**settings.LITTLE, "switch.step": 20, "subspace.k": 3},
}
