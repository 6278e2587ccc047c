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

EXPERIMENTS: tuple[Experiment, ...] = (
    *rates.EXPERIMENTS,
    *edges.EXPERIMENTS,
    *guard.EXPERIMENTS,
    *interpolation.EXPERIMENTS,
    *curvature.EXPERIMENTS,
    *pays.EXPERIMENTS,
    *bases.EXPERIMENTS,
)
