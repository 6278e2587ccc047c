"""P5-E2, and of P5-E7 to E9: the gradient's noise at the start, its tails.

    make reproduce EXPERIMENTS=linear_attention/noise

10,000 mini-batches of 1,000 prompts: the norms of their gradients' noise, in settings 1
to 3, with covariates on the sphere, with two, six and eight layers, and of the deep
network. Expected: heavy tails everywhere, heavier in settings 2 and 3 than in 1, with
Gamma norms than on the sphere, and with six and eight layers than with two.

At SCALE=cpu it took 8 minutes on one shared AMD EPYC core. P5-E2, P5-E8 noise, P5-E9
noise: reproduced.
"""

import ml_collections

from configs.linear_attention import settings


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.title = "The gradient's noise"
    # Of the initial parameters and of all prompts.
    config.seed = 0
    config.task = settings.get_config().task
    config.batch_size = 1000
    config.num_batches = 10_000
    # Batches whose mean gradient stands for the exact one.
    config.num_of_mean = 100
    # One line, at the start.
    config.steps = config.log_first = 0
    config.log_every = 1
    return config.lock()


_SETTINGS = [task for task, _ in settings.SETTINGS]
_DEEP: settings.Fields = {
    "task.num_layers": (8,),
    "task.dimension": (20,),
    "task.context": (60,),
}


def get_grid() -> list[settings.Fields]:
    return [
        *_SETTINGS,
        {"task.covariates": ("sphere",)},
        {"task.num_layers": (2, 6, 8)},
        _DEEP,
    ]


_LITTLE = {n: v for n, v in settings.LITTLE.items() if n.startswith("task.num_t")}
SCALES = {
    "cpu": {},
    "ci": {**_LITTLE, "batch_size": 16, "num_batches": 200},
}
# The deep one takes as long as thirty of the others.
GRIDS = {
    "cpu": [*get_grid()[:-1], {**_DEEP, "num_batches": (1000,)}],
    "ci": get_grid()[:-1],
}
