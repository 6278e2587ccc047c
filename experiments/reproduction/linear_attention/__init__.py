"""Ahn et al., "Linear attention is (maybe) all you need", ICLR 2024, arXiv:2310.01082.

"... (to understand transformer optimization)", by Ahn, Cheng, Song, Yun, Jadbabaie and
Sra. What the claims are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.linear_attention import networks, optimizers, tails

TITLE = "Linear attention is (maybe) all you need"

INTRODUCTION = (
    "Linear regression in context: a prompt holds n pairs of covariates in d "
    "dimensions and their labels by a weight vector of its own, and the network is to "
    "label one more. Its layers are linear attention with matrices P and Q. Setting 1 "
    "has d = 5 and n = 20 Gaussian covariates, setting 2 has n = 5, setting 3 has "
    "n = 20 with heavy tails; each step takes 1,000 fresh prompts, and losses are "
    "those of 1,000 fixed ones. SGD has a momentum of 0.9."
    "\n\n"
    "R is a robust condition number of the Hessian: the largest over the median of its "
    "diagonal's absolute values, as the published code has it, or λ_max over the "
    "median of the eigenvalues' absolute values. What the published code's notebook "
    "has stored is not what the paper's table says: for setting 1 both are shown "
    "beside ours."
)

EXPERIMENTS: tuple[Experiment, ...] = (
    *optimizers.EXPERIMENTS,
    *tails.EXPERIMENTS,
    *networks.EXPERIMENTS,
)
