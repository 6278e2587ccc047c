"""Ben Arous et al., "High-dimensional SGD aligns with emerging outlier eigenspaces".

ICLR 2024, arXiv:2310.03010, by Ben Arous, Gheissari, Huang and Jagannath. What the
claims are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.outlier_eigenspaces import (
    layers,
    logistic,
    transition,
    xor,
)

TITLE = "High-dimensional SGD aligns with emerging outlier eigenspaces"

INTRODUCTION = (
    "Data are k Gaussian components with means μ_c of length 1 and noise of variance "
    "1/λ in each of d coordinates; λ is the signal-to-noise ratio. SGD takes one fresh "
    "example a step at the rate 1/d; time is T = steps / d. Of logistic regression, "
    "x^c is the vector of parameters of class c, and its block of a matrix the one "
    "of these; of two layers, W_i is a hidden neuron's vector and v the second layer. "
    "H is the loss' Hessian on M examples, Γ the second moment of the examples' "
    "gradients. E_k is the span of the eigenvectors u_1 .. u_k of a block's k largest "
    "eigenvalues, and align(a, E_k) the norm of a's part in it over that of a. S is "
    "the span of the means. Outliers counted by gaps are those up to the last "
    "eigenvalue that is at least 1.05 times the next."
)

EXPERIMENTS: tuple[Experiment, ...] = (
    *logistic.EXPERIMENTS,
    *transition.EXPERIMENTS,
    *xor.EXPERIMENTS,
    *layers.EXPERIMENTS,
)
