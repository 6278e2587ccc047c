"""Song and Yun, "Trajectory alignment", NeurIPS 2023, arXiv:2307.04204.

Understanding the edge of stability phenomenon via bifurcation theory. What the claims
are held to is stated here, not in the paper: see each `Criterion`.
"""

from experiments.reproduction.experiment import Experiment
from experiments.reproduction.trajectory_alignment import networks, one_example

TITLE = "Trajectory alignment: the edge of stability via bifurcation theory"

INTRODUCTION = (
    "Full-batch gradient descent at the learning rate η on N outputs with residuals z, "
    "whose Jacobian is J; w is the leading eigenvector of J Jᵀ. The coordinates are "
    "p = ⟨w, z⟩ / √N and q = 2N / (η λ_max(J Jᵀ)); of one example p = z and "
    "q = 2 / (η |∇f|²). With r(p) = L'(p) / p of the loss L, trajectories at the edge "
    "of stability are to come to lie on q = r(p), one curve for all networks and "
    "rates. The sharpness is the largest eigenvalue of the loss' Hessian. In the "
    "figures |p| √(N Σ w⁴) is where the curve of N examples is looked up, for a "
    "residual is not the same for all of them; c is the norm of x, α the factor on the "
    "initial weights."
)

EXPERIMENTS: tuple[Experiment, ...] = (
    *one_example.EXPERIMENTS,
    *networks.EXPERIMENTS,
)
