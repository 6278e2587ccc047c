"""Sensitivity, S6: do Adam and Muon need a fresher basis than SGD?

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=tiny_subspaces/sensitivity_optimizers

As sensitivity_interval.py, with SGD, Adam and Muon, the basis refreshed at each step,
or kept within an angle of 0.02 or 0.1. The first of these is what tells a stale basis
from an algorithm that fails with the exact one.

At SCALE=cpu it took 10 minutes on two shared AMD EPYC cores. S6: reported.
"""

import ml_collections

from configs.tiny_subspaces import sensitivity_interval


def get_config() -> ml_collections.ConfigDict:
    config = sensitivity_interval.get_config()
    config.title = "Adam, Muon and a stale basis: MLP on MNIST-5k"
    return config


_OPTIMIZERS = [
    {"optimizer.name": ("sgd",)},
    {"optimizer.name": ("adam",), "optimizer.learning_rate": (1e-3,)},
    {
        "optimizer.name": ("muon",),
        "optimizer.learning_rate": (1e-3,),
        "optimizer.momentum": (0.95,),
    },
]
_BASES = [
    {"subspace.refresh_every": (1,)},
    {"subspace.refresh_every": (0,), "subspace.max_angle": (0.02, 0.1)},
]


def get_grid() -> list[dict[str, tuple]]:
    return [{**fields, **basis} for fields in _OPTIMIZERS for basis in _BASES]


_ONE_ANGLE = {"subspace.refresh_every": (1, 0), "subspace.max_angle": (0.1,)}


SCALES = {
    "cpu": {
        **sensitivity_interval.CPU,
        "seeds": 1,
        "steps": 1200,
        "switch.step": 600,
        "task.num_train": 500,
    },
    "ci": sensitivity_interval.CI,
}
GRIDS = {
    "cpu": [{**fields, **_ONE_ANGLE} for fields in _OPTIMIZERS],
    "ci": [{**_OPTIMIZERS[1], "subspace.refresh_every": (1, 0)}],
}
