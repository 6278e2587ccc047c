"""What `measure.blocks` logged, by block, matrix, set of examples and time."""

from typing import Any

import numpy as np

from experiments.reproduction.curves import seeds
from experiments.reproduction.experiment import Run
from experiments.reproduction.judging import by_seed, series

Line = Any

MATRICES = {"hessian": "H", "second_moment": "Γ"}


def history(run: Run) -> list[list[Line]]:
    """Return each seed's lines."""
    return by_seed(run, "plain")


def field(block: str, matrix: str, split: str, key: str) -> str:
    """Return the name of a logged number."""
    return f"blocks/{block}_{matrix}_{split}_{key}"


def last(run: Run, name: str) -> Any:
    """Return a metric's last value of each seed, [seeds, ...]."""
    return np.array([series(lines, name)[1][-1] for lines in history(run)], float)


def first(run: Run, name: str) -> Any:
    """Return a metric's first value of each seed, [seeds, ...]."""
    return np.array([series(lines, name)[1][0] for lines in history(run)], float)


def at_time(run: Run, name: str, time: float) -> Any:
    """Return a metric of each seed at the line nearest to T = steps / d.

    NaN where there is none within 2 % of T.
    """
    found = []
    for lines in history(run):
        steps, values = series(lines, name)
        distances = np.abs(times(run, steps) - time)
        nearest = int(np.argmin(distances))
        value = np.array(values[nearest], float)
        near = distances[nearest] <= 0.02 * time
        found.append(value if near else np.full_like(value, np.nan))
    return np.array(found)


GAP = 1.05
"""Outliers end at the last eigenvalue that is so many times the next one."""


def count_outliers(eigenvalues: Any) -> Any:
    """Return how many of the leading eigenvalues, [..., m], are outliers: [...].

    Those up to the last gap, 0 < lambda_i >= 1.05 lambda_{i+1}; at a bulk's edge
    neighbours are closer, in d = 500 by a few percent. At most m - 1 can be seen: so
    many say that there is no edge among them.
    """
    values = np.asarray(eigenvalues, float)
    leading = values[..., :-1]
    wide = (leading > 0) & (leading >= GAP * values[..., 1:])
    ordinals = np.arange(1, values.shape[-1])
    return np.max(np.where(wide, ordinals, 0), axis=-1)


def times(run: Run, steps: Any) -> np.ndarray:
    """Return T = steps x learning rate, which is steps / d."""
    return np.asarray(steps, float) * run.config["optimizer"]["learning_rate"]


def snr(run: Run) -> float:
    """Return the signal-to-noise ratio."""
    return float(run.config["task"]["snr"])


def by_snr(runs: Any) -> dict[float, Run]:
    """Return runs in the order of their ratios."""
    return dict(sorted((snr(run), run) for run in runs.values()))


def over_time(run: Run, name: str, reduce: Any = np.mean) -> list[tuple[Any, Any]]:
    """Return T and a number of each line, of each seed."""
    found = []
    for lines in history(run)[: len(seeds(run))]:
        steps, values = series(lines, name)
        found.append((times(run, steps), [float(reduce(value)) for value in values]))
    return found
