"""Figures that many experiments share, from the lines of their runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.reproduction.experiment import Run
from experiments.reproduction.judging import by_seed, series, summaries
from experiments.reproduction.plots import Axis, Curve, Level, Map, Plot
from experiments.summary import BRANCHES, WARMUP, lines_of_seed, of_branch

NAMES: Mapping[str, str] = {
    WARMUP: "warm-up",
    "plain": "plain",
    "dom": "Dom",
    "bulk": "Bulk",
    "interpolated": "interpolated",
}


_FAINTEST = 1e-6
"""The lowest density that has a colour of its own."""
_FAR = 100.0
"""Times a run's first loss: what is beyond goes astray, and is not drawn."""


def metric_curves(run: Run, metric: str, suffix: str = "") -> list[Curve]:
    """Return a metric of the warm-up and of each branch, a curve a seed."""
    curves = []
    for part in (WARMUP, *BRANCHES):
        for seed in seeds(run):
            lines = of_branch(lines_of_seed(run.lines, seed), part)
            x, y = series(lines, metric)
            if x:
                curves.append(Curve(NAMES[part] + suffix, x, y, part))
    return curves


def seeds(run: Run) -> Sequence[int]:
    """Return the seeds of a run."""
    first = run.config.get("seed", 0)
    return range(first, first + run.config.get("seeds", 1))


def switches(run: Run) -> list[Level]:
    """Return a vertical line where each seed switched."""
    steps = {
        summary.switch_step
        for summary in summaries(run)
        if summary.switch_step is not None
    }
    return [Level("switch", step, vertical=True) for step in sorted(steps)]


def loss_plot(run: Run, title: str = "Loss", caption: str = "") -> Plot:
    """Return the full training loss against the step, as far as it does not blow up."""
    curves = metric_curves(run, "loss/full")
    highest = _FAR * curves[0].y[0] if curves else math.inf
    curves = [
        one._replace(y=[y if y <= highest else math.nan for y in one.y])
        for one in curves
    ]
    levels = switches(run)
    return Plot(
        title, "step", "full training loss", curves, levels, False, True, caption
    )


def alignment_plot(run: Run, title: str = "Alignment", caption: str = "") -> Plot:
    """Return chi_k of the full gradient against the step, and its moving average."""
    k = run.config["subspace"]["k"]
    curves = metric_curves(run, "alignment/gradient")
    for seed in seeds(run):
        warmup = of_branch(lines_of_seed(run.lines, seed), WARMUP)
        x, y = series(warmup, "alignment/average")
        if x and run.config["switch"]["step"] <= 0:
            curves.append(Curve("moving average", x, y, "average"))
    return Plot(
        title,
        "step",
        f"χ_{k} of the full gradient",
        curves,
        switches(run),
        caption=caption,
    )


def spectrum_plot(run: Run, branch: str = "plain", caption: str = "") -> Plot:
    """Return the top eigenvalues of a branch and its warm-up; the first k coloured."""
    k = run.config["subspace"]["k"]
    curves: list[Curve] = []
    for lines in by_seed(run, branch)[:1]:
        x, spectra = series(lines, "spectrum/eigenvalues")
        columns: Sequence[Any] = list(zip(*spectra, strict=True)) if spectra else []
        for i, values in enumerate(columns):
            name = f"λ_1 … λ_{k}" if i < k else f"λ_{k + 1} and below"
            curves.append(Curve(name, x, values, "plain" if i < k else "tail"))
    return Plot(
        "Spectrum",
        "step",
        "Hessian eigenvalues",
        curves,
        switches(run),
        log_y=True,
        caption=caption,
    )


def density_map(run: Run, title: str, measurement: str, name: str) -> Map:
    """Return a spectral density over training: that of SGD, of the first seed.

    On one grid for all times, that of the last one, without the ends where there is
    nothing; densities are over asinh(t / c).

    `measurement` is "density" or "block_density", which logged the grid, and `name`
    that of the density.
    """
    lines = by_seed(run, "plain")[0]
    steps, densities = series(lines, f"{measurement}/{name}")
    grids, scales = (
        series(lines, f"{measurement}/{key}")[1] for key in ("grid", "linear_below")
    )
    grid, scale = np.asarray(grids[-1]), scales[-1]
    z = np.stack(
        [
            np.interp(grid, np.asarray(own), np.asarray(density), left=0, right=0)
            for own, density in zip(grids, densities, strict=True)
        ],
        axis=1,
    )
    seen = np.flatnonzero((z > _FAINTEST).any(axis=1))
    if seen.size:
        shown = slice(max(seen[0] - 1, 0), seen[-1] + 2)
        grid, z = grid[shown], z[shown]
    return Map(
        title,
        Axis("step", steps),
        Axis("eigenvalue", list(grid), "symlog", scale),
        np.maximum(z, _FAINTEST),
        "density over asinh(λ / c)",
        z_log=True,
        limits=(_FAINTEST, 1),
    )
