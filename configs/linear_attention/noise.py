"""P5-E2: the gradient's noise at the start, its tails.

    make reproduce EXPERIMENTS=linear_attention/noise

10,000 mini-batches of 1,000 prompts in settings 1 to 3: the norms of their gradients'
noise. Expected: heavy tails, heavier in settings 2 and 3.
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


def get_grid() -> list[settings.Fields]:
    return [task for task, _ in settings.SETTINGS]


_LITTLE = {n: v for n, v in settings.LITTLE.items() if n.startswith("task.")}
SCALES = {
    "cpu": {"num_batches": 4000},
    "ci": {**_LITTLE, "batch_size": 16, "num_batches": 200},
}
