"""P4-E4, P4-E5: networks with one example fall on the curve of their loss.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=trajectory_alignment/networks_one

Gradient descent on one image of two classes of CIFAR-10, tanh, ELU and linear MLPs of
width 256 whose initial parameters are multiplied by alpha, so that they start beyond
the edge of stability. Expected: while q < 1 their (p, q) lie on q = r(p), for every
network, scale and learning rate, and on that of the loss they are trained with.

At SCALE=cpu it took 3 minutes on one shared AMD EPYC core. P4-E4 one: reproduced. P4-E5
networks: partly.
"""

import ml_collections

from configs import defaults

Fields = dict[str, tuple]


def get_config() -> ml_collections.ConfigDict:
    config = defaults.get_config()
    config.title = "Networks, one example"
    config.task.dataset = "cifar10"
    config.task.classes = (0, 1)
    config.task.num_train = 1
    config.task.hidden_sizes = (256, 256)
    config.task.activation = "tanh"
    config.task.loss = "log_cosh"
    config.optimizer.name = "gd"
    config.optimizer.learning_rate = 0.01
    config.steps = 1000
    # All lines are those of plain gradient descent.
    config.switch.step = 1
    config.modes = ("plain",)
    config.subspace.k = 1
    config.subspace.refresh_every = 10**9
    for name in config.measure:
        config.measure[name] = 0
    config.measure.losses = config.measure.canonical = 1
    config.log_every = 1
    config.check_curvature = False
    return config


LOSSES = ("log_cosh", "sqrt")


def of(activation: str, scales: tuple[float, ...], rates: tuple[float, ...]) -> Fields:
    """Return an activation with initial scales and learning rates, with both losses."""
    return {
        "task.activation": (activation,),
        "task.init_scale": scales,
        "optimizer.learning_rate": rates,
        "task.loss": LOSSES,
    }


def get_grid() -> list[Fields]:
    return [
        of("tanh", (3.0, 4.0), (0.01, 0.02, 0.05)),
        of("elu", (3.0, 4.0), (0.01,)),
        of("identity", (2.0,), (0.002, 0.005, 0.01)),
    ]


LITTLE = {
    "task.dataset": "digits",
    "task.hidden_sizes": (8,),
    "steps": 60,
    "report_window": 10,
}

SCALES: dict = {"cpu": {"steps": 600}, "ci": LITTLE}
GRIDS = {
    "cpu": [
        of("tanh", (3.0,), (0.02,)),
        of("tanh", (4.0,), (0.01, 0.02, 0.05)),
        of("elu", (4.0,), (0.01,)),
        of("identity", (2.0,), (0.002,)),
    ],
    "ci": [of("tanh", (4.0,), (0.5,))],
}
