"""Zakarin and Singh, "Accelerating training along sharp and flat directions", 2025.

arXiv:2505.11972. Of this paper the abstract alone is known here: the experiments, their
settings and what the claims are held to are ours.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.sharp_flat import (
    bases,
    curvature,
    edges,
    guard,
    interpolation,
    pays,
    rates,
)

TITLE = "Accelerating training along sharp and flat directions"

INTRODUCTION = (
    "Of this paper the abstract alone is known here: the experiments, their settings "
    "and the criteria are this project's."
    "\n\n"
    "Updates are weighed by α in the dominant space, the span of the eigenvectors of "
    "the k largest eigenvalues of the training loss' Hessian H, and by γ in the bulk, "
    "the rest: SGD is (1, 1), Dom-SGD (1, 0), Bulk-SGD (0, 1). They are so from the "
    "switch on, a step of SGD's run; L_sw is the mean full training loss of the 100 "
    "steps before it, L_end that of the last 100. η is the learning rate; R projects "
    "on the bulk, so that η λ_max(R H R) = 2 is Bulk-SGD's edge of stability. "
    "H = G + F, the Gauss-Newton matrix and the functional Hessian."
)

EXPERIMENTS: tuple[Experiment, ...] = (
    *rates.EXPERIMENTS,
    *edges.EXPERIMENTS,
    *guard.EXPERIMENTS,
    *interpolation.EXPERIMENTS,
    *curvature.EXPERIMENTS,
    *pays.EXPERIMENTS,
    *bases.EXPERIMENTS,
)
