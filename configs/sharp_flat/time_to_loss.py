"""P2, ours: does it pay? Time to a loss, of optimizers and their interpolated versions.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/time_to_loss

The MLP of figure 1. SGD, Adam, SAM and Muon, each plain and with the dominant part of
its updates weighed by 0 to 1 and the bulk by 1 to 8 from step 200 on, all tuned over
three learning rates, the plain ones over two more, above these: 38 runs an optimizer, 5
of them plain. The basis is that of 1,000 examples. The target is 1.05 times the lowest
loss that plain SGD gets to.

At SCALE=cpu it took 24 minutes on one shared AMD EPYC core. P2 steps: reproduced. P2
time: not reproduced.
"""

from typing import Any

import ml_collections

from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "Does it pay? MLP on MNIST-5k"
    config.steps = 6000
    config.switch.step = 200
    config.subspace.num_examples = 1000
    config.subspace.refresh_every = 0
    config.subspace.min_interval = 10
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 10
    return config


Fields = dict[str, tuple[Any, ...]]

NEVER = 10**9
"""Steps between two refreshes of a basis that nobody reads: a plain run's."""


def of_both(of_sgd: tuple[float, ...], of_adam: tuple[float, ...]) -> list[Fields]:
    """Return SGD and Adam with learning rates."""
    return [
        {"optimizer.name": ("sgd",), "optimizer.learning_rate": of_sgd},
        {"optimizer.name": ("adam",), "optimizer.learning_rate": of_adam},
    ]


def with_rates(of_sgd: tuple[float, ...], of_adam: tuple[float, ...]) -> list[Fields]:
    """Return all optimizers; SAM is around SGD, at its rates."""
    sgd, adam = of_both(of_sgd, of_adam)
    muon: Fields = {
        "optimizer.name": ("muon",),
        "optimizer.momentum": (0.95,),
        "optimizer.learning_rate": (1e-3, 3e-3, 1e-2),
    }
    return [sgd, {**sgd, "optimizer.sam_rho": (0.05,)}, adam, muon]


OPTIMIZERS = with_rates((0.03, 0.1, 0.3), (3e-4, 1e-3, 3e-3))


def grid_of(
    optimizers: list[Fields], weights: list[tuple[tuple, tuple]]
) -> list[Fields]:
    """Return each optimizer, plain and with the weights of both parts."""
    grids: list[Fields] = []
    for fields in optimizers:
        rates = fields["optimizer.learning_rate"]
        # A factor on the bulk raises its rate: the plain one may have that, too.
        higher = (*rates, *(float(f"{times * rates[-1]:g}") for times in (3, 10)))
        grids.append(
            {
                **fields,
                "optimizer.learning_rate": higher,
                "modes": (("plain",),),
                "subspace.refresh_every": (NEVER,),
            }
        )
        for dom, bulk in weights:
            grids.append(
                {
                    **fields,
                    "modes": (("interpolated",),),
                    "projection.dom": dom,
                    "projection.bulk": bulk,
                }
            )
    return grids


# Not (1, 1), which is the plain one.
WEIGHTS = [((0.0, 0.5), (1.0, 2.0, 4.0, 8.0)), ((1.0,), (2.0, 4.0, 8.0))]


def get_grid() -> list[Fields]:
    return grid_of(OPTIMIZERS, WEIGHTS)


FEW_WEIGHTS = [((0.0,), (1.0, 4.0))]


def few_of(
    of_sgd: tuple[float, ...],
    of_adam: tuple[float, ...],
    of_muon: float,
    weights: list[tuple[tuple, tuple]],
) -> list[Fields]:
    """Return runs for the networks whose step is slow on two cores.

    SGD and Adam with their rates and the weights; SAM at SGD's first rate and Muon at
    one, with the dominant part left out alone.
    """
    sam, muon = with_rates(of_sgd[:1], of_adam)[1::2]
    others = [sam, {**muon, "optimizer.learning_rate": (of_muon,)}]
    return [
        *grid_of(of_both(of_sgd, of_adam), weights),
        *grid_of(others, weights),
    ]


# 11 runs an optimizer.
SCALES = {
    "cpu": {"steps": 2000},
    "ci": {**small.MLP, "switch.step": 20, "subspace.num_examples": 60},
}
GRIDS = {
    "cpu": grid_of(OPTIMIZERS, FEW_WEIGHTS),
    "ci": grid_of(
        [{"optimizer.name": ("sgd",), "optimizer.learning_rate": (0.03, 0.1)}],
        [((0.0,), (1.0, 4.0))],
    ),
}
