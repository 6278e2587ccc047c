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

INTRODUCTION = (
    "E_k is the span of the eigenvectors of the k largest eigenvalues of the training "
    "loss' Hessian, the dominant space, and what is orthogonal to it the bulk; χ_k is "
    "the norm of a gradient's part in E_k over that of the gradient. Dom-SGD keeps the "
    "part of each update that is in E_k, Bulk-SGD the rest. Both go on from SGD's own "
    "run, at the switch; L_sw is the mean full training loss of the last steps before "
    "it and L_end that of the last steps (`report_window`: 100)."
)

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
