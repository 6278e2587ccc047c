"""Ben Arous et al., "High-dimensional SGD aligns with emerging outlier eigenspaces".

ICLR 2024, arXiv:2310.03010, by Ben Arous, Gheissari, Huang and Jagannath. What the
claims are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.outlier_eigenspaces import layers, logistic, xor

TITLE = "High-dimensional SGD aligns with emerging outlier eigenspaces"

EXPERIMENTS: tuple[Experiment, ...] = (
    *logistic.EXPERIMENTS,
    *xor.EXPERIMENTS,
    *layers.EXPERIMENTS,
)
