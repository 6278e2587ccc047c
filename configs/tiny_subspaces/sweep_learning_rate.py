"""Does Dom-SGD stall, and Bulk-SGD learn, at each learning rate?

make sweep SWEEP=configs/tiny_subspaces/sweep_learning_rate.py
"""

import ml_collections

from configs import quickstart


def get_config() -> ml_collections.ConfigDict:
    config = quickstart.get_config()
    config.title = "SGD, Dom-SGD and Bulk-SGD on digits, by learning rate"
    config.seeds = 2
    config.steps = 2000
    config.task.hidden_sizes = (50, 50)
    config.log_every = 25
    config.measure.spectrum = 0
    return config


def get_grid() -> dict[str, tuple]:
    return {"optimizer.learning_rate": (0.05, 0.1, 0.2)}
