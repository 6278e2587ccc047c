"""P3 and P1, ours: Dom and Bulk with the block-diagonal Hessian's dominant space.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=outlier_eigenspaces/layer_spaces

The MLP of figure 1 of "Does SGD really happen in tiny subspaces?", Dom-SGD and Bulk-SGD
with the top 10 and the top 30 of the Hessian, and of the Hessian without what couples
its three layers: those of all layers together, however they share them. Expected: as
with the global space, Dom stalls and Bulk learns.

At SCALE=cpu it took 8 minutes on one shared AMD EPYC core. P3 layer spaces: reproduced.
"""

import ml_collections

from configs.tiny_subspaces import mlp_mnist, sensitivity_interval, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "The layers' own spaces: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 8000
    config.switch.step = 4000
    config.log_every = 50
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


def get_grid() -> dict[str, tuple]:
    return {"subspace.curvature": ("hessian", "layers"), "subspace.k": (10, 30)}


SCALES = {
    "cpu": small.without(sensitivity_interval.CPU, "measure."),
    "ci": {**small.MLP, "switch.step": 30},
}
# A product with all layers' blocks takes as many of the whole Hessian as there are
# layers: refreshes are rare, of both.
GRIDS = {
    "cpu": {
        "subspace.curvature": ("hessian", "layers"),
        "subspace.k": (10, 30),
        "subspace.refresh_every": (300,),
    },
    "ci": {"subspace.curvature": ("hessian", "layers")},
}
