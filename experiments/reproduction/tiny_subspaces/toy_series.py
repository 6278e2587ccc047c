"""A branch of a run of `experiments.toy`, and what is predicted of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import toy_theory
from experiments.reproduction.experiment import Run

WEIGHTS: Mapping[str, tuple[float, float]] = {
    "plain": (1.0, 1.0),
    "dom": (1.0, 0.0),
    "bulk": (0.0, 1.0),
}
"""Of an update's dominant and bulk part, in the branches with noise."""


class Branch(NamedTuple):
    """The lines of one branch; none where it was not run.

    config: of the run. name: such as "plain". lines: as in metrics.jsonl.
    steps: [lines], int.
    """

    config: Mapping[str, Any]
    name: str
    lines: Sequence[Mapping[str, Any]]
    steps: np.ndarray


def branch_of(run: Run, name: str) -> Branch:
    """Return the lines of a branch."""
    lines = [line for line in run.lines if line["branch"] == name]
    steps = np.array([line["step"] for line in lines], int)
    return Branch(run.config, name, lines, steps)


def is_complete(branch: Branch) -> bool:
    """Tell whether the branch was run to its last step, with finite numbers."""
    return (
        bool(branch.lines)
        and int(branch.steps[-1]) == branch.config["steps"]
        and bool(np.isfinite(branch.lines[-1]["loss/full"]))
    )


def values(branch: Branch, metric: str) -> np.ndarray:
    """Return a metric at the logged steps, [lines] or, of a path, [lines, paths]."""
    return np.array([line[metric] for line in branch.lines], float)


def mean_from(branch: Branch, metric: str, first_step: float) -> float:
    """Average a metric over the equidistant ones of the logged steps from one on.

    NaN where there is none.
    """
    equidistant = branch.steps % branch.config["log_every"] == 0
    chosen = values(branch, metric)[equidistant & (branch.steps >= first_step)]
    return float(np.mean(chosen)) if chosen.size else float("nan")


def exact(branch: Branch) -> dict[str, np.ndarray]:
    """Return the expectation of metrics at the logged steps of a branch with noise.

    Of toy/x2, toy/y2, toy/xy and loss/full; of toy/energy_ratio, which is the ratio of
    two expectations.
    """
    config, quadratic = branch.config, branch.config["quadratic"]
    k = quadratic["num_dominant"]
    counts = (k, quadratic["num_bulk"])
    eigenvalues = np.repeat([quadratic["dominant"], quadratic["bulk"]], counts)
    scale = config["noise"]["scale"]
    is_sign = config["noise"]["name"] == "sign"
    step = toy_theory.linear_step(
        eigenvalues,
        np.repeat(WEIGHTS[branch.name], counts),
        config["learning_rate"],
        coupling=scale if is_sign else 0.0,
        noise_std=0.0 if is_sign else scale,
    )
    start = np.repeat(config["start"], counts)
    moments = toy_theory.second_moments(step, start, config["steps"])[branch.steps]
    squares = np.diagonal(moments, axis1=1, axis2=2)  # [lines, n]
    energies = squares * eigenvalues**2
    return {
        "toy/x2": squares[:, :k].sum(axis=1),
        "toy/y2": squares[:, k:].sum(axis=1),
        "toy/xy": moments[:, 0, k],
        "loss/full": squares @ eigenvalues / 2,
        "toy/energy_ratio": energies[:, :k].sum(axis=1) / energies.sum(axis=1),
    }


def energy_ratio_limit(config: Mapping[str, Any]) -> float:
    """Return lim E|P g|^2 / E|g|^2 of a run's SGD with isotropic noise."""
    quadratic = config["quadratic"]
    k = quadratic["num_dominant"]
    return toy_theory.noise_energy_ratio(
        config["learning_rate"],
        k,
        k + quadratic["num_bulk"],
        quadratic["dominant"],
        quadratic["bulk"],
    )
