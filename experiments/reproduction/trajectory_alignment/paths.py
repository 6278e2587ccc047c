"""Paths of a network with one example in (p, q), and how they are drawn."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.reproduction.experiment import Run
from experiments.reproduction.plots import Curve, Level, Plot

Ratio = Callable[[Any], Any]

_HIGHEST_DRAWN = 8.0
"""Of the sharpness over the edge: beyond it a path has diverged."""

_DECIDED = 10
"""The step at which a path is beyond the edge, q < 1, or below it."""


class Paths(NamedTuple):
    """A branch's paths: [lines, paths], and what they have at the start, [paths].

    steps: of the lines. beyond: whether q < 1 at step 10.
    """

    steps: np.ndarray
    p: np.ndarray
    q: np.ndarray
    sharpness: np.ndarray
    eta: np.ndarray
    beyond: np.ndarray


def paths_of(run: Run, branch: str) -> Paths:
    """Return the paths of a loss."""
    lines = [line for line in run.lines if line["branch"] == branch]
    steps = np.array([line["step"] for line in lines])
    p, q, sharpness, eta = (
        np.array([line[f"path/{name}"] for line in lines], float)
        for name in ("p", "q", "sharpness", "learning_rate")
    )
    decided = q[np.flatnonzero(steps == _DECIDED)[0]]
    return Paths(steps, p, q, sharpness, eta[0], decided < 1)


def off_curve(paths: Paths, ratio: Ratio) -> np.ndarray:
    """Return |q / r(p) - 1| of the paths beyond the edge, [lines, paths]."""
    return np.abs(paths.q / ratio(paths.p) - 1)[:, paths.beyond]


def gaps(paths: Paths) -> np.ndarray:
    """Return 2 / eta - sharpness at the end, of each path."""
    return 2 / paths.eta - paths.sharpness[-1]


def of_rate(paths: Paths, eta: float) -> Paths:
    """Return the paths of one learning rate."""
    kept = paths.eta == eta
    return paths._replace(
        p=paths.p[:, kept],
        q=paths.q[:, kept],
        sharpness=paths.sharpness[:, kept],
        eta=paths.eta[kept],
        beyond=paths.beyond[kept],
    )


def curve_plot(
    named: Mapping[str, Paths], ratios: Mapping[str, Ratio], title: str = "The curve"
) -> Plot:
    """Draw the bifurcation diagram: q over |p|, a colour a name, and the orbits.

    Those of p <- (1 - 2 r(p) / q) p at a fixed q: 0, stable where q > 1, and where q
    is below 1 the one of period two, on the curves r.
    """
    curves = []
    for name, paths in named.items():
        for i in range(len(paths.eta)):
            settled = (paths.steps >= _DECIDED) & np.isfinite(paths.p[:, i])
            x, y = np.abs(paths.p[settled, i]), paths.q[settled, i]
            curves.append(Curve(name, x.tolist(), y.tolist(), points=True))
    largest = max((max(curve.x, default=0) for curve in curves), default=1)
    z = np.linspace(0, largest, 200)
    for name, ratio in ratios.items():
        curves.append(Curve(f"r, {name}", z.tolist(), ratio(z).tolist()))
    highest = max((max(curve.y, default=1) for curve in curves), default=1)
    curves.append(Curve("p = 0, stable", [0, 0], [1, max(highest, 1.2)], "plain"))
    curves.append(Curve("p = 0, unstable", [0, 0], [0, 1], "tail"))
    return Plot(
        title,
        "|p|, the residual",
        "q = 2 / (η ‖∇f‖²)",
        curves,
        caption=f"Each path from step {_DECIDED} on. Beyond the edge q is below 1.",
    )


def sharpness_plot(paths: Paths, title: str) -> Plot:
    """Draw the sharpness times eta / 2 over the steps, until a path diverges."""
    curves = []
    for i, eta in enumerate(paths.eta):
        y = paths.sharpness[:, i] * eta / 2
        gone = np.flatnonzero(~(y < _HIGHEST_DRAWN))
        end = gone[0] if gone.size else len(y)
        x = paths.steps[:end] + 1
        curves.append(Curve(f"η = {eta:g}", x.tolist(), y[:end].tolist()))
    edge = [Level("edge of stability", 1.0)]
    return Plot(title, "step + 1", "sharpness × η / 2", curves, edge, log_x=True)
