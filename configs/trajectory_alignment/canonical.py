"""P4-E7: how exact is the canonical map?

    make reproduce EXPERIMENTS=trajectory_alignment/canonical

The first steps of linear.py at learning rates from 0.01 to 0.2, from one p and one q.
Expected: a step differs from p <- (1 - 2 r(p) / q) p at a fixed q by terms of the order
of eta^2.

At SCALE=cpu it took 2 seconds on one shared AMD EPYC core. P4-E7: reproduced.
"""

import ml_collections

from configs.trajectory_alignment import linear

SCALES: dict = {"cpu": {"width": 64}, "ci": {"width": 4}}


def get_config() -> ml_collections.ConfigDict:
    config = linear.get_config()
    with config.unlocked():
        config.title = "The canonical map and the exact one"
        config.learning_rates = (0.2, 0.1, 0.05, 0.02, 0.01)
        config.residuals = (0.5,)
        config.sharpnesses = (1.25,)
        config.steps = 50
    return config
