"""P4-E4: networks with many examples fall near the curve of their loss.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=trajectory_alignment/networks

As networks_one.py with 50 and with 200 images, from which the sharpness rises to the
edge by itself. p is the residuals' component along the leading eigenvector of J J^T
over sqrt(N), which is our choice of a form. Expected: beyond the edge (p, q) comes near
to q = r(p).

At SCALE=cpu it took 12 minutes on one shared AMD EPYC core. P4-E4: partly.
"""

import ml_collections

from configs.trajectory_alignment import networks_one


def get_config() -> ml_collections.ConfigDict:
    config = networks_one.get_config()
    config.title = "Networks, many examples"
    config.task.num_train = 50
    return config


def _of(activation: str, size: int, rates: tuple[float, ...]) -> networks_one.Fields:
    found = networks_one.of(activation, (1.0,), rates)
    return {"task.num_train": (size,), **found}


def get_grid() -> list[networks_one.Fields]:
    return [
        _of("tanh", 50, (0.025, 0.03, 0.04)),
        _of("tanh", 200, (0.025, 0.05, 0.1, 0.2)),
        _of("elu", 50, (0.025, 0.03, 0.04)),
        _of("elu", 200, (0.025, 0.05)),
        _of("identity", 50, (0.025, 0.04)),
    ]


# On two cores a narrower network and fewer images: a line takes all gradients.
SCALES: dict = {
    "cpu": {"steps": 600, "task.hidden_sizes": (64, 64)},
    "ci": networks_one.LITTLE,
}
GRIDS = {
    "cpu": [
        _of("tanh", 50, (0.025,)),
        _of("tanh", 100, (0.05,)),
        _of("elu", 50, (0.03,)),
        _of("elu", 100, (0.05,)),
        _of("identity", 50, (0.025,)),
    ],
    "ci": [_of("tanh", 20, (1.0,))],
}
