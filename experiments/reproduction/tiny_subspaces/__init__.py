"""Song, Ahn and Yun, "Does SGD really happen in tiny subspaces?", arXiv:2405.16002.

What the claims are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.tiny_subspaces import (
    causes,
    edge,
    figure_1,
    muon,
    networks,
    optimizers,
    sensitivity,
    toy,
)

TITLE = "Does SGD really happen in tiny subspaces?"

EXPERIMENTS: tuple[Experiment, ...] = (
    *figure_1.EXPERIMENTS,
    *causes.EXPERIMENTS,
    *edge.EXPERIMENTS,
    *optimizers.EXPERIMENTS,
    *muon.EXPERIMENTS,
    *networks.EXPERIMENTS,
    *toy.EXPERIMENTS,
    *sensitivity.EXPERIMENTS,
)
