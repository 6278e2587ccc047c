"""P2, ours: does it pay? Time to a loss, of optimizers and their interpolated versions.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/time_to_loss

The MLP of figure 1. SGD, Adam, SAM and Muon, each plain, at three learning rates and at
three and ten times the highest, and with the dominant part of its updates weighed by 0
to 1 and the bulk by 1 to 8 from step 200 on, at the three rates. Each with two
trackers: on 1,000 examples with adaptive refreshes, and on 200 with a refresh each 200
steps. With the second, the dominant part is left out alone at the two higher rates,
too. Each optimizer is to get to 1.05 times the lowest loss of its plain version, and of
SGD.

At SCALE=cpu it took 30 minutes on one shared AMD EPYC core. P2 steps, P2 time: partly.
"""

import itertools
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


TRACKERS: list[Fields] = [
    {"subspace.refresh_every": (0,), "subspace.num_examples": (1000,)},
    {"subspace.refresh_every": (200,), "subspace.num_examples": (200,)},
]

_LEFT_OUT: tuple[tuple, tuple] = ((0.0,), (1.0,))


def grid_of(
    optimizers: list[Fields],
    weights: list[tuple[tuple, tuple]],
    trackers: list[Fields],
) -> list[Fields]:
    """Return each optimizer, plain and with the weights of both parts.

    A factor on the bulk raises its rate: plain ones may have 3 and 10 times the
    highest, too, and so may those with the dominant part left out alone, with the last
    tracker.
    """
    grids: list[Fields] = []
    for fields in optimizers:
        rates = fields["optimizer.learning_rate"]
        higher = tuple(float(f"{times * rates[-1]:g}") for times in (3, 10))
        grids.append(
            {
                **fields,
                "optimizer.learning_rate": (*rates, *higher),
                "modes": (("plain",),),
                "subspace.refresh_every": (NEVER,),
                "subspace.num_examples": trackers[0]["subspace.num_examples"],
            }
        )
        for of_these, (dom, bulk), tracker in (
            *((rates, *both) for both in itertools.product(weights, trackers)),
            (higher, _LEFT_OUT, trackers[-1]),
        ):
            grids.append(
                {
                    **fields,
                    **tracker,
                    "optimizer.learning_rate": of_these,
                    "modes": (("interpolated",),),
                    "projection.dom": dom,
                    "projection.bulk": bulk,
                }
            )
    return grids


# Not (1, 1), which is the plain one.
WEIGHTS = [((0.0, 0.5), (1.0, 2.0, 4.0, 8.0)), ((1.0,), (2.0, 4.0, 8.0))]


def get_grid() -> list[Fields]:
    return grid_of(OPTIMIZERS, WEIGHTS, TRACKERS)


FEW_WEIGHTS: list[tuple[tuple, tuple]] = [((0.0,), (1.0, 4.0))]


def few_of(
    of_sgd: tuple[float, ...],
    of_adam: tuple[float, ...],
    of_muon: float,
    tracker: Fields,
) -> list[Fields]:
    """Return runs for the networks whose step is slow on two cores.

    SGD and Adam with their rates, SAM at SGD's first rate and Muon at one, the bulk
    weighed by 4; all plain, and with the dominant part left out, at higher ones, too.
    """
    weights: list[tuple[tuple, tuple]] = [((0.0,), (4.0,))]
    sam, muon = with_rates(of_sgd[:1], of_adam)[1::2]
    others = [sam, {**muon, "optimizer.learning_rate": (of_muon,)}]
    return grid_of([*of_both(of_sgd, of_adam), *others], weights, [tracker])


SCALES = {
    "cpu": {"steps": 2000},
    "ci": {**small.MLP, "switch.step": 20, "subspace.num_examples": 60},
}
GRIDS = {
    # 19 runs an optimizer.
    "cpu": grid_of(OPTIMIZERS, FEW_WEIGHTS, TRACKERS),
    "ci": grid_of(
        [{"optimizer.name": ("sgd",), "optimizer.learning_rate": (0.03, 0.1)}],
        FEW_WEIGHTS,
        [{"subspace.refresh_every": (0,), "subspace.num_examples": (60,)}],
    ),
}
