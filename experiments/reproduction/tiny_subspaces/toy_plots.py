"""The figures of the toy quadratic, from the records of `experiments.toy`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.reproduction.experiment import Run, Runs
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.reproduction.tiny_subspaces.toy_series import (
    WEIGHTS,
    Branch,
    branch_of,
    energy_ratio_limit,
    exact,
    values,
)
from experiments.toy import DISPLACED

LABELS: Mapping[str, str] = {
    "plain": "SGD",
    "dom": "Dom-SGD",
    "bulk": "Bulk-SGD",
    "gd": "GD",
    DISPLACED: "GD from the slope",
}

_NUM_POINTS = 30


def quadratic(runs: Runs) -> Sequence[Plot]:
    """Draw paths, losses, second moments and alignments."""
    (run,) = runs.values()
    losses = _losses(
        run,
        "Means over all seeds, and the exact expectation. Steps in the dominant "
        "direction alone make no progress; those in the bulk alone lose nothing by it.",
    )
    return [_paths(run), losses, _second_moments(run), _alignments(run)]


def gaussian(runs: Runs) -> Sequence[Plot]:
    """Draw the bulk's share of the energy, losses, second moments and alignments."""
    (run,) = runs.values()
    losses = _losses(
        run,
        "Means over all seeds, and the exact expectation. The noise in each direction "
        "has its own floor, and each projection keeps one of them.",
    )
    return [_bulk_share(run), losses, _second_moments(run), _alignments(run)]


def _branches(run: Run) -> list[Branch]:
    branches = [branch_of(run, name) for name in LABELS]
    return [branch for branch in branches if branch.lines]


def _role(branch: Branch) -> str:
    return branch.name if branch.name in WEIGHTS else ""


def _positive(numbers: np.ndarray) -> list[float]:
    """Leave out what a logarithmic axis cannot show."""
    return [float(number) if number > 0 else math.nan for number in numbers]


def _paths(run: Run) -> Plot:
    curves = []
    for branch in _branches(run):
        xs, ys = values(branch, "toy/path_x"), values(branch, "toy/path_y")
        # Those that leap from side to side of the valley.
        points = branch.name in ("plain", "dom")
        curves += [
            Curve(LABELS[branch.name], x.tolist(), y.tolist(), _role(branch), points)
            for x, y in zip(xs.T, ys.T, strict=True)
        ]
    return Plot(
        "Paths in the plane",
        "x, the dominant direction",
        "y, the bulk",
        curves,
        caption="A few seeds at the logged steps. SGD goes down the valley while it "
        "leaps across; Dom-SGD leaps, and stays at its y; Bulk-SGD and gradient "
        "descent go down the floor.",
    )


def _losses(run: Run, caption: str) -> Plot:
    metrics = [(branch, "loss/full", _role(branch)) for branch in _branches(run)]
    return Plot(
        "Mean loss",
        "step",
        "E L",
        _beside_exact(metrics, {"loss/full": ""}),
        log_y=True,
        caption=caption,
    )


def _second_moments(run: Run) -> Plot:
    plain, dom = branch_of(run, "plain"), branch_of(run, "dom")
    metrics = [
        (plain, "toy/x2", "plain"),
        (plain, "toy/y2", ""),
        (dom, "toy/x2", "dom"),
    ]
    return Plot(
        "Second moments",
        "step",
        "E |x|², E |y|²",
        _beside_exact(metrics, {"toy/x2": "E |x|², ", "toy/y2": "E |y|², "}),
        log_y=True,
        caption="Means over all seeds, and the exact recursion.",
    )


def _beside_exact(
    metrics: Sequence[tuple[Branch, str, str]], prefixes: Mapping[str, str]
) -> list[Curve]:
    """Draw metrics of branches in a role, and the exact values where there is noise."""
    measured, expected = [], []
    for branch, metric, role in metrics:
        if not branch.lines:
            continue
        name, steps = prefixes[metric] + LABELS[branch.name], branch.steps.tolist()
        measured.append(Curve(name, steps, _positive(values(branch, metric)), role))
        if branch.name in WEIGHTS:
            expected.append(_exact(branch, exact(branch)[metric]))
    return measured + expected


def _exact(branch: Branch, numbers: np.ndarray) -> Curve:
    """Draw what is expected, as points, since a line would hide what was measured."""
    every = -(-len(numbers) // _NUM_POINTS)
    steps = branch.steps[::every].tolist()
    return Curve("exact", steps, _positive(numbers[::every]), "average", points=True)


def _alignments(run: Run) -> Plot:
    curves = []
    for branch in _branches(run):
        later = branch.steps > 0
        chi = values(branch, "toy/chi")[later].tolist()
        steps = branch.steps[later].tolist()
        curves.append(Curve(LABELS[branch.name], steps, chi, _role(branch)))
    return Plot(
        "Alignment",
        "step",
        "E χ of the full gradient",
        curves,
        log_x=True,
        caption="Noise across the valley aligns the gradient at once. Without noise, "
        "or without the steps across, it is not aligned, or not for long.",
    )


def _bulk_share(run: Run) -> Plot:
    plain, curves = branch_of(run, "plain"), []
    if plain.lines:
        steps = plain.steps.tolist()
        measured = _positive(1 - values(plain, "toy/energy_ratio"))
        expected = _exact(plain, 1 - exact(plain)["toy/energy_ratio"])
        curves = [
            Curve(LABELS["plain"], steps, measured, "plain"),
            expected,
        ]
    return Plot(
        "The bulk's share of the energy",
        "step",
        "1 - E|P g|² / E|g|²",
        curves,
        [Level("closed form", 1 - energy_ratio_limit(run.config))],
        log_y=True,
        caption="Isotropic noise is enough to align the gradient with the dominant "
        "direction.",
    )
