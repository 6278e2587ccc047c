"""P2-E7: where is the curvature's energy? H = G + F, in the dominant space and off it.

    TFDS_DATA_DIR=... make reproduce EXPERIMENTS=sharp_flat/energies

The MLP of figure 1 under SGD, Dom-SGD and Bulk-SGD: Frobenius energies, traces and the
gradient's energy of the Hessian, of its Gauss-Newton part and of the functional
Hessian; their top eigenvalues, and their spectral densities. Expected: after the switch
at least 80 % of |H|_F^2 is dominant, and G's share is larger than F's.

At SCALE=cpu it took 2 minutes on one shared AMD EPYC core. P2-E7: reproduced.
"""

import ml_collections

from configs.sharp_flat import raised_rate
from configs.tiny_subspaces import mlp_mnist, small


def get_config() -> ml_collections.ConfigDict:
    config = mlp_mnist.get_config()
    config.title = "The energy of the curvature: MLP on MNIST-5k"
    config.seeds = 3
    config.steps = 6000
    config.switch.step = 3000
    config.subspace.refresh_every = 100
    config.log_every = 100
    config.measure.energy = 2
    config.measure.split = 2
    config.measure.density = 4
    config.measure.spectrum = 0
    config.measure.held_out = 0
    return config


SCALES = {
    "cpu": small.without(raised_rate.CPU, "optimizer."),
    "ci": small.without(raised_rate.CI, "optimizer.drop_"),
}
