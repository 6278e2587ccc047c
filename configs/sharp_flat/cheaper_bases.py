"""P2, ours: cheaper bases at equal time.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/cheaper_bases

The MLP of figure 1, SGD at 0.1, plain and from step 200 on with the dominant part of
its updates left out and the bulk weighed by 1 or 4. The basis is that of the Hessian on
all examples, on a fifth and on a twenty-fifth of them, of the Gauss-Newton matrix, of
the Hessian without what couples its layers, or of the latest 50 updates, which costs no
product with a Hessian; each is refreshed every 50 steps. Losses are compared at the
time at which plain SGD has done all its steps.

At SCALE=cpu it took 7 minutes on one shared AMD EPYC core. P2 bases: reproduced.
"""

import ml_collections

from configs.sharp_flat import time_to_loss


def get_config() -> ml_collections.ConfigDict:
    config = time_to_loss.get_config()
    config.title = "Cheaper bases: MLP on MNIST-5k"
    config.optimizer.learning_rate = 0.1
    config.subspace.refresh_every = 50
    return config


def grid_of(
    fifth: int, few: int, factors: tuple[float, ...] = (1.0, 4.0)
) -> list[time_to_loss.Fields]:
    """Return SGD, and the bases on all examples, on a fifth, and on a few.

    Each with the bulk weighed by the factors.
    """
    plain: time_to_loss.Fields = {"modes": (("plain",),)}
    weights: time_to_loss.Fields = {
        "modes": (("interpolated",),),
        "projection.dom": (0.0,),
        "projection.bulk": factors,
    }
    others = ("gauss_newton", "layers", "updates")
    return [
        plain,
        {**weights, "subspace.num_examples": (0, fifth, few)},
        {
            **weights,
            "subspace.num_examples": (fifth,),
            "subspace.curvature": others,
        },
    ]


def get_grid() -> list[time_to_loss.Fields]:
    return grid_of(1000, 200)


SCALES = {"cpu": {"steps": 2000}, "ci": time_to_loss.SCALES["ci"]}
GRIDS = {"ci": grid_of(30, 15)}
