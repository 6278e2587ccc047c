"""The setting of the phase diagrams: SGD, and from a step on at a higher rate.

The MLP of figure 1 of "Does SGD really happen in tiny subspaces?": SGD at 0.01 until
step 3,000, where its gradient has aligned, and from that one state 3,000 steps of SGD
and of Bulk-SGD at a multiple of the rate, `optimizer.drop_factor`. So all cells of a
diagram begin at one state, whatever their rate.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "The edges of SGD and of Bulk-SGD: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 6000
    config.switch.step = 3000
    config.optimizer.schedule = "piecewise"
    config.optimizer.drop_steps = (3000,)
    config.optimizer.drop_factor = 1.0
    config.modes = ("plain", "bulk")
    config.subspace.refresh_every = 0
    config.log_every = 25
    config.measure.sharpness = 1
    config.measure.bulk_sharpness = 4
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


FACTORS = (1.0, 4.0, 16.0, 32.0, 64.0, 128.0)
"""Of the learning rate. At the switch lambda_1 is near 20: SGD's edge is near 10."""

# On two cores: a narrower network, a fifth of the images, and shorter. At rates at
# which SGD is chaotic the basis turns at each step, and the tracker would follow.
CPU = {
    "subspace.min_interval": 25,
    "task.num_train": 1000,
    "task.hidden_sizes": (64, 64),
    "seeds": 2,
    "steps": 2500,
    "switch.step": 1500,
    "optimizer.drop_steps": (1500,),
    "log_every": 50,
}
# Where the bulk's edge is read at the switch alone, the first line of each branch.
CPU_AT_SWITCH = {**CPU, "measure.bulk_sharpness": 100}
CI = {
    **small.MLP,
    "seeds": 2,
    "switch.step": 30,
    "optimizer.drop_steps": (30,),
}
