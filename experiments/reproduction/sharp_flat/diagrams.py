"""Where SGD and Bulk-SGD stop to learn: phase diagrams, with the predicted edges.

On a quadratic SGD is stable below the learning rate 2 / lambda_1 and Bulk-SGD below
2 / lambda_{k+1}. The eigenvalues here are those at the switch, from where each cell's
rate is raised; that they change afterwards, and that the loss is not quadratic, is
where the prediction may fail.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.json_values import flatten
from experiments.reproduction import boundaries, phase
from experiments.reproduction.experiment import Claim, Criterion, Run, Runs
from experiments.reproduction.judging import at_least, by_seed, mean
from experiments.reproduction.plots import Axis, Map, Mark
from experiments.summary import WARMUP

RATE = "optimizer.drop_factor"
"""The field along x: the multiple of the learning rate from the switch on."""

SHARE_RIGHT = 0.8
"""Of the cells that have to be on the predicted side."""


class Rows(NamedTuple):
    """What a diagram has along y: the config field's dotted name, its label, scale."""

    field: str
    label: str
    scale: str = "log"


class Branch(NamedTuple):
    """A branch, its name in figures, and what limits its rate.

    limit: the predicted largest multiple of the learning rate, of a run.
    """

    mode: str
    name: str
    limit: Callable[[Run], float]


def _at_switch(run: Run, of_line: Callable[[Mapping[str, Any]], float]) -> float:
    """Return 2 / (eta lambda), lambda the mean over seeds at the switch.

    That is at the first line of a branch, where everything is measured.
    """
    first = [
        next(line for line in lines if line["branch"] != WARMUP)
        for lines in by_seed(run, run.config["modes"][-1])
        if any(line["branch"] != WARMUP for line in lines)
    ]
    rate = run.config["optimizer"]["learning_rate"]
    return 2 / (rate * mean([of_line(line) for line in first]))


def _limit_of_sgd(run: Run) -> float:
    return _at_switch(run, lambda line: line["subspace/eigenvalues"][0])


def _limit_of_bulk(run: Run) -> float:
    """By lambda_max(R H R) with the basis in use, a solve of its own.

    The tracker's lambda_{k+1} is an estimate from below.
    """
    return _at_switch(run, lambda line: line["bulk_sharpness/largest"])


def _limit_of_weights(run: Run) -> float:
    """Alpha eta lambda_1 < 2 and gamma eta lambda_{k+1} < 2."""
    weights = run.config["projection"]
    dom = _limit_of_sgd(run) / weights["dom"] if weights["dom"] else math.inf
    return min(dom, _limit_of_bulk(run) / weights["bulk"])


PLAIN = Branch("plain", "SGD", _limit_of_sgd)
BULK = Branch("bulk", "Bulk-SGD", _limit_of_bulk)
INTERPOLATED = Branch("interpolated", "Interpolated", _limit_of_weights)


def unstable_in(mode: str) -> phase.Numbers:
    """Return 1 of each seed whose loss at the end is above that at the switch."""

    def numbers(run: Run) -> list[float]:
        ratios = phase.ratio_in(mode)(run)
        return [np.nan if np.isnan(ratio) else float(ratio > 1) for ratio in ratios]

    return numbers


def limits(runs: Runs, rows: Rows, branch: Branch) -> dict[float, float]:
    """Return each row's predicted limit on the multiple, by the row's value."""
    found: dict[float, list[float]] = {}
    for run in runs.values():
        found.setdefault(_value(run, rows.field), []).append(branch.limit(run))
    return {value: mean(of_row) for value, of_row in sorted(found.items())}


def axes(runs: Runs, rows: Rows) -> tuple[Axis, Axis]:
    """Return the axes of a diagram."""
    x = sorted({_value(run, RATE) for run in runs.values()})
    y = sorted({_value(run, rows.field) for run in runs.values()})
    (first, *_) = runs.values()
    rate = first.config["optimizer"]["learning_rate"]
    label = f"learning rate / {rate:g}"
    return Axis(label, x, "log"), Axis(rows.label, y, rows.scale)


def margin(of_rows: dict[float, float]) -> boundaries.Margin:
    """Return log(multiple / limit), limits interpolated between rows."""
    rows = np.log(np.array(list(of_rows)))
    logs = np.log(np.array(list(of_rows.values())))
    return lambda x, y: np.log(x) - np.interp(np.log(y), rows, logs)


def largest_stable(runs: Runs, rows: Rows, mode: str) -> list[float]:
    """Return each row's largest multiple up to which no more than half are unstable.

    0 where the smallest one is unstable already.
    """
    found = phase.diagram(runs, RATE, rows.field, unstable_in(mode))
    largest = []
    for shares in phase.matrix(found):
        bad = [i for i, share in enumerate(shares) if not share < 0.5]
        last = (bad[0] if bad else len(shares)) - 1
        largest.append(float(found.x[last]) if last >= 0 else 0.0)
    return largest


def judge_edges(
    runs: Runs, rows: Rows, claim: Claim, branches: Sequence[Branch] = (PLAIN, BULK)
) -> list[Criterion]:
    """Hold the share of cells on the predicted side to `SHARE_RIGHT`."""
    x, y = axes(runs, rows)
    criteria = []
    for branch in branches:
        share = phase.matrix(
            phase.diagram(runs, RATE, rows.field, unstable_in(branch.mode))
        )
        predicted = boundaries.predict(margin(limits(runs, rows, branch)), x, y)
        found = boundaries.agreement(share, predicted)
        note = (
            f"all on one side: {found.constant:.2f}; stable by prediction, but not "
            f"here: {found.stable_but_diverged:.2f}; the reverse: "
            f"{found.diverged_but_stable:.2f}"
        )
        text = f"{branch.name}: share of {found.num_cells} cells on the predicted side"
        says = predicted.any() and not predicted.all()
        if not says:
            note = f"all cells are predicted to be on one side; {note}"
        shares = [found.right] if says else []
        criteria.append(at_least(claim.id, text, shares, SHARE_RIGHT, note))
    return criteria


def phase_map(runs: Runs, rows: Rows, branch: Branch) -> Map:
    """Return the loss at the end in each cell, and both boundaries over it."""
    x, y = axes(runs, rows)
    ratios = phase.diagram(runs, RATE, rows.field, phase.ratio_in(branch.mode))
    share = phase.matrix(
        phase.diagram(runs, RATE, rows.field, unstable_in(branch.mode))
    )
    diverged = phase.matrix(
        phase.diagram(runs, RATE, rows.field, phase.diverged_in(branch.mode))
    )
    predicted = margin(limits(runs, rows, branch))
    return Map(
        branch.name,
        x,
        y,
        phase.matrix(ratios),
        "L_end / L_sw",
        z_log=True,
        center=1.0,
        marks=[Mark("diverged", diverged >= 0.5)],
        curves=[
            boundaries.boundary("measured: L_end = L_sw", share, x, y),
            boundaries.predicted_boundary("predicted", predicted, x, y),
        ],
        caption="Below 1 the run learned. Predicted: the edge at the switch.",
    )


def _value(run: Run, field: str) -> float:
    return float(flatten(run.config)[field])
