"""Numbers of runs that many judges hold to bounds, one a seed."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from experiments.reproduction.experiment import Criterion, Run
from experiments.summary import (
    WARMUP,
    BranchSummary,
    Summary,
    lines_of_seed,
    of_branch,
    summarize_seeds,
)

Line = Any


def held_to(
    claim: str,
    text: str,
    values: Sequence[float],
    holds: Callable[[float], bool],
    note: str = "",
) -> Criterion:
    """Return a number held to a bound: its mean over the seeds.

    Without a value, or with one that is not a number, nothing holds: `note` says why.
    """
    values = tuple(float(value) for value in values)
    if not values or any(math.isnan(value) for value in values):
        return Criterion(claim, text, (), None, note or "not measured")
    return Criterion(claim, text, values, bool(holds(statistics.fmean(values))), note)


def at_most(
    claim: str, text: str, values: Sequence[float], bound: float, note: str = ""
) -> Criterion:
    """Hold the mean to an upper bound, which is added to the text."""
    text = f"{text} ≤ {bound:g}"
    return held_to(claim, text, values, lambda mean: mean <= bound, note)


def at_least(
    claim: str, text: str, values: Sequence[float], bound: float, note: str = ""
) -> Criterion:
    """Hold the mean to a lower bound, which is added to the text.

    An infinite loss, of a branch that diverged, fulfils no bound.
    """
    text = f"{text} ≥ {bound:g}"
    return held_to(claim, text, values, lambda mean: bound <= mean < math.inf, note)


def summaries(run: Run) -> list[Summary]:
    """Return each seed's summary."""
    return list(summarize_seeds(run.config, run.status, run.lines).values())


def ends(run: Run, branch: str) -> list[BranchSummary]:
    """Return each seed's end of a branch; no seed that has not switched, none at all.

    A branch that diverged has an infinite loss and ratio.
    """
    found = []
    for summary in summaries(run):
        of_seed = [one for one in summary.branches if one.branch == branch]
        for one in of_seed:
            if one.status == "diverged":
                one = one._replace(loss=math.inf, ratio=math.inf)
            found.append(one)
    return found


def never_switched(run: Run) -> str:
    """Say which seeds never met the switch's rule, and how near they came; or ""."""
    missed = [
        (seed, summary)
        for seed, summary in summarize_seeds(run.config, run.status, run.lines).items()
        if summary.switch_step is None
    ]
    if not missed:
        return ""
    averages = [
        line["alignment/average"] for line in run.lines if not _is_unknown(line)
    ]
    highest = max(averages, default=math.nan)
    seeds = ", ".join(str(seed) for seed, _ in missed)
    return (
        f"seed {seeds} never met the switch rule: the moving average reached "
        f"{highest:.3f}"
    )


def _is_unknown(line: Line) -> bool:
    return math.isnan(line.get("alignment/average", math.nan))


def by_seed(run: Run, branch: str) -> list[list[Line]]:
    """Return each seed's lines of a branch, those of its warm-up before them."""
    first, num = run.config.get("seed", 0), run.config.get("seeds", 1)
    found = []
    for seed in range(first, first + num):
        lines = lines_of_seed(run.lines, seed)
        history = of_branch(lines, WARMUP)
        if branch != WARMUP:
            history = history + of_branch(lines, branch)
        found.append(history)
    return found


def series(lines: Sequence[Line], name: str) -> tuple[list[int], list[Any]]:
    """Return the steps and values of a metric, where it was logged."""
    logged = [(line["step"], line[name]) for line in lines if name in line]
    return [step for step, _ in logged], [value for _, value in logged]


def between(
    lines: Sequence[Line], name: str, first: float, last: float = math.inf
) -> list[Any]:
    """Return the values of a metric in the steps first <= step < last."""
    steps, values = series(lines, name)
    return [
        value for step, value in zip(steps, values, strict=True) if first <= step < last
    ]


def lowest(values: Sequence[float]) -> float:
    """Return the smallest value, NaN of nothing."""
    return min(values, default=math.nan)


def highest(values: Sequence[float]) -> float:
    """Return the largest value, NaN of nothing."""
    return max(values, default=math.nan)


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return statistics.fmean(values) if values else math.nan


def median(values: Sequence[float]) -> float:
    """Return the median, NaN of nothing."""
    return statistics.median(values) if values else math.nan
