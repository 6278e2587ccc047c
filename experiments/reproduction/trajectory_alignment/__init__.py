"""Song and Yun, "Trajectory alignment", NeurIPS 2023, arXiv:2307.04204.

Understanding the edge of stability phenomenon via bifurcation theory. What the claims
are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.trajectory_alignment import networks, one_example

TITLE = "Trajectory alignment: the edge of stability via bifurcation theory"

EXPERIMENTS: tuple[Experiment, ...] = (
    *one_example.EXPERIMENTS,
    *networks.EXPERIMENTS,
)
