"""Numbers of each seed of a run, and names of runs."""

from collections.abc import Callable
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
    """Return each seed's loss at the end, the mean of the last lines.

    Infinite of one that diverged.
    """
    return _of_last_lines(run, branch, _LAST_LINES, np.mean)


def progress(run: Run, branch: str) -> Any:
    """Return each seed's loss at the end over that at the switch, of a branch."""
    starts = [
        next(line["loss/full"] for line in lines if line["branch"] == branch)
        for lines in by_seed(run, branch)
    ]
    return end_losses(run, branch) / np.array(starts, float)


def median_losses(run: Run, num_lines: int = _LAST_LINES) -> Any:
    """Return each seed's median loss of the last lines: without the spikes among them.

    Infinite of one that diverged.
    """
    return _of_last_lines(run, "plain", num_lines, np.median)


def _of_last_lines(
    run: Run, branch: str, num: int, reduce: Callable[[Any], Any]
) -> np.ndarray:
    outcomes = run.status["branches"][branch]
    outcomes = outcomes if isinstance(outcomes, list) else [outcomes]
    found = []
    for lines, outcome in zip(by_seed(run, branch), outcomes, strict=True):
        loss = reduce(np.array(series(lines, "loss/full")[1][-num:], float))
        ended = outcome["status"] == "finished" and np.isfinite(loss)
        found.append(loss if ended else np.inf)
    return np.array(found, float)


def over(part: Any, whole: Any) -> Any:
    """Return part / whole of each seed, NaN where what it is over diverged."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    finite = np.isfinite(whole)
    return np.where(finite, part / np.where(finite, whole, 1), np.nan)


def at_step(run: Run, metric: str, step: int) -> Any:
    """Return each seed's value of a metric at the line nearest to a step.

    NaN where there is none within the distance of two lines, as of one that diverged.
    """
    found = []
    for lines in by_seed(run, "plain"):
        steps, values = series(lines, metric)
        distances = np.abs(np.array(steps) - step)
        near = distances.size and distances.min() <= run.config["log_every"]
        found.append(values[int(distances.argmin())] if near else np.nan)
    return np.array(found, float)
