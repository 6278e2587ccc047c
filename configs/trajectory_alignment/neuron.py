"""P4-E3: one tanh neuron, one example.

    make reproduce EXPERIMENTS=trajectory_alignment/neuron

L = (tanh(x) y)^2 / 2 from q = 0.6, 0.8, 0.95 and 1.2. Expected: from beyond the edge q
follows r(p), and the sharpness ends at 2/eta - 3/4.

At SCALE=cpu it took a second on one shared AMD EPYC core. P4-E3: reproduced.
"""

import ml_collections

from configs.trajectory_alignment import product

SCALES: dict = {"ci": {"steps": 100}}


def get_config() -> ml_collections.ConfigDict:
    config = product.get_config()
    with config.unlocked():
        config.title = "A tanh neuron, one example"
        config.points = ()
        config.model = "tanh_neuron"
        config.losses = ("half_squared_error",)
        config.learning_rates = (0.02, 0.01, 0.005)
        config.residuals = (0.1, 0.3)
        config.sharpnesses = tuple(1 / q for q in (0.6, 0.8, 0.95, 1.2))
        config.steps = 20_000
        config.log_first = 300
        config.log_every = 200
    return config
