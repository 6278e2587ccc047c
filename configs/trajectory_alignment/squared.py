"""P4-E6: squared error has no curve: where a path ends depends on where it began.

    make reproduce EXPERIMENTS=trajectory_alignment/squared

As linear.py at the learning rate 0.05, from a residual of 0.01 and 1.1 to 2.05 times
the edge, with squared error and with log cosh. Expected: log cosh brings them all to
one sharpness; squared error leaves them apart, and diverges from beyond 4/eta.

At SCALE=cpu it took 3 seconds on one shared AMD EPYC core. P4-E6: reproduced.
"""

import ml_collections

from configs.trajectory_alignment import linear

SCALES: dict = {
    "cpu": {"width": 64},
    "ci": {"steps": 100, "width": 4},
}


def get_config() -> ml_collections.ConfigDict:
    config = linear.get_config()
    with config.unlocked():
        config.title = "Squared error and log cosh"
        config.losses = ("half_squared_error", "log_cosh")
        config.learning_rates = (0.05,)
        config.residuals = (0.01,)
        config.sharpnesses = (1.1, 1.3, 1.6, 2.05)
        config.steps = 20_000
    return config
