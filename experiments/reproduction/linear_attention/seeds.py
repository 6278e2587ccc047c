"""Numbers of each seed of a run, and names of runs."""

from typing import Any

import numpy as np

from experiments.reproduction.experiment import Run, Runs
from experiments.reproduction.judging import by_seed, series

SGD, ADAM = "SGD", "Adam"

_LAST_LINES = 5
"""Of the lines, averaged for "the loss at the end"."""


def optimizer(run: Run) -> str:
    """Return "SGD" (with momentum) or "Adam"."""
    return ADAM if run.config["optimizer"]["name"] == "adam" else SGD


def setting(run: Run) -> str:
    """Return which of the settings 1 to 3 a run is in, in words."""
    task = run.config["task"]
    number = {"gamma": 3}.get(task["covariates"], 1 if task["context"] >= 20 else 2)
    return f"setting {number}"


def pairs(runs: Runs, group: Any) -> dict[Any, dict[str, Run]]:
    """Return the runs of both optimizers by a function of the run."""
    found: dict[Any, dict[str, Run]] = {}
    for run in runs.values():
        found.setdefault(group(run), {})[optimizer(run)] = run
    return found


def end_losses(run: Run, branch: str = "plain") -> Any:
    """Return each seed's loss at the end, the mean of the last lines."""
    return np.array(
        [
            np.mean(series(lines, "loss/full")[1][-_LAST_LINES:])
            for lines in by_seed(run, branch)
        ]
    )


def at_step(run: Run, metric: str, step: int) -> Any:
    """Return each seed's value of a metric at a step, or NaN."""
    found = []
    for lines in by_seed(run, "plain"):
        values = dict(zip(*series(lines, metric), strict=True))
        found.append(values.get(step, np.nan))
    return np.array(found, float)
