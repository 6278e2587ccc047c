"""P4-E2, P4-E5: two-layer linear network, one example: gradient flow, or the edge.

    make reproduce EXPERIMENTS=trajectory_alignment/linear

Width 256, both losses, learning rates 0.02 to 0.2, from 0.7 to 1.9 times the edge of
stability. Expected: from beyond the edge q follows the loss' own curve r(p), and the
sharpness ends at 2/eta - eta / (2 c), c = 1/3 (log cosh) or 1/2 (sqrt); from below it q
stays.

At SCALE=cpu it took 2 seconds on one shared AMD EPYC core. P4-E2, P4-E5: reproduced.
"""

import ml_collections

from configs.trajectory_alignment import product

SCALES: dict = {
    "cpu": {"steps": 30_000, "learning_rates": (0.2, 0.1, 0.05), "width": 64},
    "ci": {"steps": 100, "learning_rates": (0.2, 0.1), "width": 4},
}


def get_config() -> ml_collections.ConfigDict:
    config = product.get_config()
    with config.unlocked():
        config.title = "Two linear layers, one example"
        config.points = ()
        config.width = 256
        config.losses = ("log_cosh", "sqrt")
        config.learning_rates = (0.2, 0.1, 0.05, 0.02)
        config.residuals = (0.1, 0.5)
        config.sharpnesses = (0.7, 1.1, 1.5, 1.9)
        config.steps = 100_000
        config.log_first = 300
        config.log_every = 500
    return config
