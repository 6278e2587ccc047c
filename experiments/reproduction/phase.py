"""Phase diagrams: numbers of a sweep's runs over two of its fields.

    found = diagram(runs, "optimizer.learning_rate", "batch_size", diverged_in("plain"))
    share = matrix(found)

A `plots.Map` shows them, and `boundaries` holds them to a prediction.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np

from experiments.json_values import flatten
from experiments.names import lookup
from experiments.reproduction.experiment import Run, Runs
from experiments.summary import WARMUP, summarize_seeds

Numbers = Callable[[Run], Sequence[float]]
"""A number of each of a run's seeds, NaN of one that has none."""


class Diagram(NamedTuple):
    """Numbers of a sweep's runs over two fields.

    x, y: the fields' values: numbers ascending; others as texts, in the runs' order.
    numbers: [len(y)][len(x)], those of all seeds; none where there was no run.
    """

    x: tuple[Any, ...]
    y: tuple[Any, ...]
    numbers: tuple[tuple[tuple[float, ...], ...], ...]


def diagram(runs: Runs, x: str, y: str, numbers: Numbers) -> Diagram:
    """Return numbers of runs over two config fields, by these fields' dotted names.

    Runs of one cell may differ in their seed alone; their numbers are put together.

    Raises:
      ValueError: if a config lacks a field (the message lists those there are), or two
        runs of one cell differ in another one.
    """
    configs = {name: flatten(run.config) for name, run in runs.items()}
    cells: dict[tuple[Any, Any], list[str]] = {}
    for name, config in configs.items():
        at_x, at_y = (_value(lookup("field", field, config)) for field in (x, y))
        others = cells.setdefault((at_x, at_y), [])
        if others:
            _check_alike(configs, others[0], name)
        others.append(name)
    columns, rows = _ordered(at for at, _ in cells), _ordered(at for _, at in cells)

    def of_cell(at_x: Any, at_y: Any) -> tuple[float, ...]:
        names = cells.get((at_x, at_y), [])
        return tuple(float(n) for name in names for n in numbers(runs[name]))

    return Diagram(
        columns, rows, tuple(tuple(of_cell(i, j) for i in columns) for j in rows)
    )


def _value(value: Any) -> Any:
    """Return a field's value, as text unless it is a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else str(value)


def _ordered(values: Iterable[Any]) -> tuple[Any, ...]:
    found = dict.fromkeys(values)
    if any(isinstance(value, str) for value in found):
        return tuple(str(value) for value in found)
    return tuple(sorted(found))


def _check_alike(configs: Mapping[str, Mapping], first: str, second: str) -> None:
    a, b = configs[first], configs[second]
    differ = {name for name in {*a, *b} if a.get(name) != b.get(name)} - {"seed"}
    if differ:
        raise ValueError(
            f"the runs {first!r} and {second!r} are in one cell, but differ in "
            f"{', '.join(sorted(differ))}; choose among the runs first"
        )


# Numbers of a run.


def diverged_in(branch: str) -> Numbers:
    """Return 1 of each seed that diverged in a branch or in the warm-up before it.

    It is 0 where the branch finished, and NaN where it never started or has not ended.
    To diverge is to meet numbers that are not finite (status.json). A loss may have
    grown a lot without that: see `ratio_in`.
    """

    def numbers(run: Run) -> list[float]:
        told = run.status.get("branches") or {}
        known = dict.fromkeys([WARMUP, *run.config.get("modes", ()), *told])
        lookup("branch", branch, known)
        pairs = zip_longest(_statuses(told, WARMUP), _statuses(told, branch))
        return [
            1.0 if "diverged" in pair else 0.0 if pair[1] == "finished" else math.nan
            for pair in pairs
        ]

    return numbers


def ratio_in(branch: str) -> Numbers:
    """Return each seed's loss at the end of a branch over that at the switch.

    As of `summary.BranchSummary`; infinite where `diverged_in` says so, NaN where the
    branch has not finished.
    """

    def numbers(run: Run) -> list[float]:
        summaries = summarize_seeds(run.config, run.status, run.lines)
        diverged = diverged_in(branch)(run)
        found = []
        for seed, has_diverged in enumerate(diverged, run.config.get("seed", 0)):
            ratios = [
                one.ratio
                for one in (summaries[seed].branches if seed in summaries else ())
                if one.branch == branch and one.status == "finished"
            ]
            found.append(math.inf if has_diverged == 1 else [*ratios, math.nan][0])
        return found

    return numbers


def _statuses(branches: Mapping[str, Any], name: str) -> list[str]:
    told = branches.get(name, [])
    return [one["status"] for one in (told if isinstance(told, list) else [told])]


# Matrices.


def matrix(
    found: Diagram, statistic: Callable[[Sequence[float]], float] = statistics.fmean
) -> np.ndarray:
    """Return a number of each cell, [len(y), len(x)]: a statistic of its seeds'.

    Seeds without a number are left out; NaN where none has one.
    """

    def of_cell(numbers: Sequence[float]) -> float:
        known = [number for number in numbers if not math.isnan(number)]
        return statistic(known) if known else math.nan

    return np.array([[of_cell(numbers) for numbers in row] for row in found.numbers])


def by_seed(found: Diagram) -> list[np.ndarray]:
    """Return a matrix for each seed: of the first one in each cell, the second one, ...

    For criteria, whose values are one a seed.
    """
    num = max(map(len, chain.from_iterable(found.numbers)), default=0)
    padded = [
        [[*numbers, *[math.nan] * (num - len(numbers))] for numbers in row]
        for row in found.numbers
    ]
    return list(np.moveaxis(np.array(padded).reshape(len(padded), -1, num), 2, 0))
