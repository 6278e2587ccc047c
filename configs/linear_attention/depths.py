"""P5-E9: more layers, a larger gap between SGD and Adam.

    make reproduce EXPERIMENTS=linear_attention/depths

Setting 1 with 2 to 8 layers. Expected: the ratio of SGD's loss to Adam's grows with the
depth. Two learning rates for each optimizer, setting 1's and a quarter of it, the best
of each compared. A step whose gradient overflows is left out.

At SCALE=cpu it took 12 minutes on one shared AMD EPYC core. P5-E9: reproduced.
"""

import ml_collections

from configs.linear_attention import settings

RATES = (0.005, 0.02)


def get_config() -> ml_collections.ConfigDict:
    config = settings.get_config()
    config.title = "The number of layers"
    # The network is a polynomial of degree 3^layers in a prompt: some overflow.
    config.optimizer.skip_not_finite = True
    config.measure.cost = 1
    return config


def _grid(*depths: int) -> list[settings.Fields]:
    return [
        {"task.num_layers": depths, **fields, "optimizer.learning_rate": RATES}
        for fields in settings.optimizers(0.02, 0.02)
    ]


def get_grid() -> list[settings.Fields]:
    return _grid(2, 4, 6, 8)


SCALES: dict = {
    "cpu": {"steps": 1000},
    "ci": {n: v for n, v in settings.LITTLE.items() if n != "task.num_layers"},
}
GRIDS = {"ci": _grid(2, 3)}
