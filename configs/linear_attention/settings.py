"""The settings of in-context linear regression, and their learning rates.

d = 5, three layers, 1,000 fresh prompts a step, gradients clipped to norm 1: of 20
Gaussian covariates (1), of 5 (2), of 20 with heavy tails (3). The learning rates are
those of the published code.
"""

from typing import Any

import ml_collections

from configs import defaults

Fields = dict[str, tuple[Any, ...]]


def get_config() -> ml_collections.ConfigDict:
    """Return setting 1: six seeds, 10,000 steps, the loss of 1,000 fixed prompts."""
    config = defaults.get_config()
    config.task.dataset = "prompts"
    config.task.model = "linear_transformer"
    config.task.loss = "squared_error"
    config.task.dimension = 5
    config.task.context = 20
    config.task.covariates = "gaussian"
    config.task.num_train = config.task.num_test = 1000
    config.task.num_layers = 3
    config.task.matrices = "blocks"
    config.task.fresh = True
    config.seeds = 6
    config.steps = 10_000
    config.batch_size = 1000
    config.optimizer.name = "heavy_ball"
    config.optimizer.momentum = 0.9
    config.optimizer.learning_rate = 0.02
    config.optimizer.clip_norm = 1.0
    config.switch.step = 1
    config.modes = ("plain",)
    # Nothing is projected: the tracked space is looked at once, and not used.
    config.subspace.k = 1
    config.subspace.refresh_every = 10**9
    for name in config.measure:
        config.measure[name] = 0
    config.measure.losses = 1
    config.log_every = 50
    config.checkpoint_every = 2500
    config.report_window = 250
    return config


def optimizers(sgd: float, adam: float) -> list[Fields]:
    """Return SGD with momentum, and Adam, at these learning rates."""
    return [
        {
            "optimizer.name": ("heavy_ball",),
            "optimizer.learning_rate": (sgd,),
            "optimizer.momentum": (0.9,),
            "optimizer.b2": (0.999,),
        },
        {
            "optimizer.name": ("adam",),
            "optimizer.learning_rate": (adam,),
            "optimizer.momentum": (0.0,),
            "optimizer.b2": (0.9,),
        },
    ]


SETTINGS: list[tuple[Fields, list[Fields]]] = [
    ({"task.context": (20,), "task.covariates": ("gaussian",)}, optimizers(0.02, 0.02)),
    ({"task.context": (5,), "task.covariates": ("gaussian",)}, optimizers(0.01, 0.005)),
    ({"task.context": (20,), "task.covariates": ("gamma",)}, optimizers(0.02, 0.02)),
]
"""The prompts of each, and its optimizers."""


def all_settings() -> list[Fields]:
    """Return every optimizer in every setting."""
    return [{**task, **fields} for task, both in SETTINGS for fields in both]


LITTLE = {
    "steps": 60,
    "seeds": 2,
    "batch_size": 16,
    "task.num_train": 20,
    "task.num_test": 20,
    "task.dimension": 2,
    "task.num_layers": 2,
    "log_every": 10,
    "checkpoint_every": 20,
    "report_window": 10,
    "check_curvature": False,
}
