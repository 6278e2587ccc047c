"""P4 and P1, ours: gradient descent at the edge, with its dominant part left out.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=trajectory_alignment/bulk_gd

A tanh MLP of width 64 on 200 images, log cosh: gradient descent until it is beyond the
edge, then plain, Dom-GD and Bulk-GD, k = 1, the basis anew at each step.
Expected, by self-stabilization (Damian et al., 2022): the oscillation along the first
eigenvector is what holds the sharpness at 2 / eta. Without it p stays where it is and q
falls below the curve, that is, the sharpness rises, while the loss goes on as the
average of gradient descent does.

At SCALE=cpu it took 3 minutes on one shared AMD EPYC core. P4 Bulk-GD: partly.
"""

import ml_collections

from configs.trajectory_alignment import networks_one


def get_config() -> ml_collections.ConfigDict:
    config = networks_one.get_config()
    config.title = "Bulk-GD at the edge of stability"
    config.task.num_train = 200
    config.task.hidden_sizes = (64, 64)
    config.optimizer.learning_rate = 0.05
    config.steps = 600
    config.switch.step = 60
    config.modes = ("plain", "dom", "bulk")
    config.subspace.refresh_every = 1
    config.measure.sharpness = config.measure.certificate = config.measure.cost = 1
    config.report_window = 20
    return config


SCALES: dict = {
    "cpu": {"steps": 200, "task.num_train": 100, "switch.step": 50},
    "ci": {**networks_one.LITTLE, "switch.step": 20, "task.num_train": 20},
}
