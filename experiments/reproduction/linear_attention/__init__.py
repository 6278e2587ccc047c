"""Ahn et al., "Linear attention is (maybe) all you need", ICLR 2024, arXiv:2310.01082.

"... (to understand transformer optimization)", by Ahn, Cheng, Song, Yun, Jadbabaie and
Sra. What the claims are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.linear_attention import networks, optimizers, tails

TITLE = "Linear attention is (maybe) all you need"

EXPERIMENTS: tuple[Experiment, ...] = (
    *optimizers.EXPERIMENTS,
    *tails.EXPERIMENTS,
    *networks.EXPERIMENTS,
)
