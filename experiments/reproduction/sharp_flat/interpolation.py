"""Interpolated updates: alpha times the dominant part, gamma times the bulk."""

import itertools
import math
from typing import Any

import numpy as np

from experiments.reproduction import phase
from experiments.reproduction.curves import metric_curves, switches
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_most, by_seed, ends, mean, series
from experiments.reproduction.plots import Axis, Map, Mark, Panel, Plot

MONOTONE = Claim(
    "P2-E6 path",
    "ours, after the abstract",
    "From Dom-SGD to Bulk-SGD the loss at the end falls.",
)
WEIGHTS = Claim(
    "P2-E6 grid",
    "ours, after the abstract",
    "A smaller dominant part and a larger bulk part learn faster than SGD.",
)


def _weights(run: Run) -> tuple[float, float]:
    """Return alpha and gamma."""
    projection = run.config["projection"]
    return projection["dom"], projection["bulk"]


def _on_path(run: Run) -> bool:
    return sum(_weights(run)) == 1


def _ratios(run: Run) -> list[float]:
    return [one.ratio for one in ends(run, "interpolated")]


def roughness(run: Run) -> list[float]:
    """Return each seed's variance of the logarithm of the loss around its trend."""
    found = []
    switch = run.config["switch"]["step"]
    for lines in by_seed(run, "interpolated"):
        later = [line for line in lines if line["step"] >= switch]
        steps, losses = series(later, "loss/full")
        logs = np.log(np.asarray(losses, float))
        if not np.isfinite(logs).all():
            found.append(float("inf"))  # it diverged
            continue
        trend: Any = np.polynomial.Polynomial.fit(steps, logs, 1)
        found.append(float(np.var(logs - trend(np.asarray(steps)))))
    return found


def _judge(runs: Runs) -> list[Criterion]:
    path = sorted(filter(_on_path, runs.values()), key=lambda run: _weights(run)[1])
    losses = [mean(_ratios(run)) for run in path]
    rises = [after / before - 1 for before, after in itertools.pairwise(losses)]
    rise = float("nan") if any(map(math.isnan, rises)) else max(rises)
    plain = [one.ratio for run in path[:1] for one in ends(run, "plain")]
    criteria = [
        at_most(
            MONOTONE.id, "largest rise of L_end from one s to the next", [rise], 0.03
        ),
        Criterion(WEIGHTS.id, "SGD: L_end / L_sw", tuple(plain), None),
    ]
    for run in path:
        name = f"s = {_weights(run)[1]:g}"
        criteria += [
            Criterion(MONOTONE.id, f"{name}: L_end / L_sw", tuple(_ratios(run)), None),
            Criterion(
                MONOTONE.id,
                f"{name}: variance of log L around its trend",
                tuple(roughness(run)),
                None,
            ),
        ]
    return [*criteria, *_judge_grid(runs, mean(plain))]


_NOISE = 0.01
"""Losses nearer to each other, relatively, are not told apart."""


def _judge_grid(runs: Runs, plain: float) -> list[Criterion]:
    """Hold the best weights to SGD's, and to those with the same factor of the bulk."""
    losses = {_weights(run): mean(_ratios(run)) for run in runs.values()}
    faster = {of: loss for of, loss in losses.items() if of[0] < 1 < of[1]}
    if not faster:
        return []
    (alpha, gamma), loss = min(faster.items(), key=lambda item: item[1])
    note = f"α = {alpha:g}, γ = {gamma:g}"
    text = "best with α < 1 < γ: L_end / that of SGD"
    found = [at_most(WEIGHTS.id, text, [loss / plain], 1 - _NOISE, note)]
    if (1.0, gamma) in losses:
        text = "the same over that with α = 1 and this γ: what the smaller α does"
        ratio = [loss / losses[1.0, gamma]]
        found.append(at_most(WEIGHTS.id, text, ratio, 1 - _NOISE))
    return found


def grid(runs: Runs) -> dict[str, Run]:
    """Return the runs whose weights are among those off the path; they fill a grid."""
    off_path = [_weights(run) for run in runs.values() if not _on_path(run)]
    columns, rows = (set(weights) for weights in zip(*off_path, strict=True))
    found = {}
    for name, run in runs.items():
        alpha, gamma = _weights(run)
        if alpha in columns and gamma in rows:
            found[name] = run
    return found


def _grid_map(runs: Runs) -> Map:
    """Return the loss at the end over both weights; SGD's is in the middle."""
    fields = "projection.dom", "projection.bulk"
    runs = grid(runs)
    ratios = phase.diagram(runs, *fields, phase.ratio_in("interpolated"))
    diverged = phase.diagram(runs, *fields, phase.diverged_in("interpolated"))
    (first, *_) = runs.values()
    plain = mean([one.ratio for one in ends(first, "plain")])
    return Map(
        "Weights of both parts",
        Axis("α, of the dominant part", ratios.x),
        Axis("γ, of the bulk", ratios.y, "log"),
        phase.matrix(ratios),
        "L_end / L_sw",
        z_log=True,
        center=plain,
        marks=[Mark("diverged", phase.matrix(diverged) >= 0.5)],
        caption=f"SGD, α = γ = 1, ends at {plain:.3f}, where both hues meet.",
    )


def _plots(runs: Runs) -> list[Panel]:
    path = sorted(filter(_on_path, runs.values()), key=lambda run: _weights(run)[1])
    curves = [
        curve._replace(name=f"s = {_weights(run)[1]:g}", role="")
        for run in path
        for curve in metric_curves(run, "loss/full")
        if curve.role == "interpolated"
    ]
    levels = switches(path[0])
    found: list[Panel] = [
        Plot(
            "From Dom to Bulk", "step", "full training loss", curves, levels, log_y=True
        )
    ]
    if len(path) < len(runs):
        found.append(_grid_map(runs))
    return found


EXPERIMENTS = (
    Experiment(
        "interpolation", "Interpolated updates", (MONOTONE, WEIGHTS), _judge, _plots
    ),
)
