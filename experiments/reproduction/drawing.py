"""What both kinds of figures share: the curves' colours, and the points to be drawn."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.reproduction.plots import Curve, Level, Map, Panel, Plot

MAX_POINTS = 1500
"""A curve of more points is thinned to at most so many."""

ROLES: Mapping[str, str] = {
    "plain": "plain",
    "dom": "dom",
    "bulk": "bulk",
    "interpolated": "interpolated",
    "warmup": "warmup",
    "average": "ink",
    "tail": "tail",
}
"""The colours, by their names in `figures.COLORS`, of the roles of curves."""

DASHES = ("solid", "dash", "dot", "dashdot")
"""Of the curves over a map, in turn; points are hollow, of as many shapes."""

_FREE = ("indigo", "amber", "wine", "cyan", "olive", "brown")


class Look(NamedTuple):
    """How the curves of one name are drawn.

    color: name in `figures.COLORS`. dashed: whether the line is. width: of a line, in
    points. num_curves: how many have the name.
    """

    color: str
    dashed: bool
    width: float
    num_curves: int


def looks(plot: Plot) -> dict[str, Look]:
    """Return how the curves are drawn, by their names, in the order of the legend.

    Curves without a role get the free colours in turn, dashed once all are taken.
    Several curves of one name (seeds) are thin.

    Raises:
      ValueError: for an unknown role, or one name with two roles.
    """
    roles: dict[str, str] = {}
    for curve in plot.curves:
        if curve.role and curve.role not in ROLES:
            raise ValueError(
                f"curve {curve.name!r} has the unknown role {curve.role!r}, but "
                f"expected '' or one of: {', '.join(ROLES)}"
            )
        if roles.setdefault(curve.name, curve.role) != curve.role:
            raise ValueError(
                f"curves {curve.name!r} have the roles {roles[curve.name]!r} and "
                f"{curve.role!r}, but expected one, as they share a colour"
            )
    free = [name for name, role in roles.items() if not role]
    found = {}
    for name, role in roles.items():
        turn, place = divmod(free.index(name), len(_FREE)) if not role else (0, 0)
        count = sum(curve.name == name for curve in plot.curves)
        # Wider, so that it shows below a curve that follows it closely.
        width = (2.4 if role == "plain" else 1.5) / count**0.5
        found[name] = Look(
            ROLES[role] if role else _FREE[place], turn > 0, width, count
        )
    return found


def dashes(shown: Map) -> dict[str, str]:
    """Return which of `DASHES` each name's curves over a map have.

    Raises:
      ValueError: for more names than that.
    """
    names = list(dict.fromkeys(curve.name for curve in shown.curves))
    if len(names) > len(DASHES):
        raise ValueError(
            f"the map {shown.title!r} has curves of {len(names)} names, but expected "
            f"at most {len(DASHES)}, which dashes tell apart: {', '.join(names)}"
        )
    return dict(zip(names, DASHES, strict=False))


class Points(NamedTuple):
    """The points of a curve that are drawn: x, y [n], and NaN where there is a gap.

    errors: [n] of y, or None. left_out: how many could not be drawn, as they are
    infinite, or not positive on a logarithmic axis.
    """

    x: np.ndarray
    y: np.ndarray
    errors: np.ndarray | None
    left_out: int


def points(curve: Curve, panel: Panel) -> Points:
    """Return the points of one of the panel's curves, thinned where there are many.

    Raises:
      ValueError: if x and y, or y and its errors, differ in length.
    """
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    errors = np.asarray(curve.errors, float) if len(curve.errors) else None
    if errors is not None and errors.shape != y.shape:
        raise ValueError(
            f"curve {curve.name!r} of {panel.title!r} has y of shape {y.shape} and "
            f"errors of shape {errors.shape}, but expected one each"
        )
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(
            f"curve {curve.name!r} of {panel.title!r} has x of shape {x.shape} and y "
            f"of shape {y.shape}, but expected two sequences of one length"
        )
    missing = np.isnan(x) | np.isnan(y)
    shown = np.isfinite(x) & np.isfinite(y)
    if panel.log_x:
        shown &= x > 0
    if panel.log_y:
        shown &= y > 0
    kept = thin(x, np.where(shown, y, np.nan), growing=panel.log_x)
    return Points(
        x=np.where(shown, x, np.nan)[kept],
        y=np.where(shown, y, np.nan)[kept],
        errors=None if errors is None else errors[kept],
        left_out=int(np.sum(~shown & ~missing)),
    )


def levels(panel: Panel) -> list[Level]:
    """Return the levels that can be drawn: on a logarithmic axis, the positive ones."""
    return [
        level
        for level in panel.levels
        if level.at > 0 or not (panel.log_x if level.vertical else panel.log_y)
    ]


def thin(x: np.ndarray, y: np.ndarray, *, growing: bool = False) -> np.ndarray:
    """Return the indices of at most `MAX_POINTS` points that look like all of them.

    The points are cut into bins of consecutive ones. A bin keeps the points with its
    smallest and its largest x and y, and one of its gaps; the curve keeps its ends.
    Where x grows along the curve, these are the four points a bin of the M4 aggregation
    (Jugel et al., 2014), which leaves a drawn line as it is to the width of a bin.

    Args:
      x: [n].
      y: [n], with NaN as a gap.
      growing: bins that grow geometrically, for a logarithmic horizontal axis, instead
        of equal ones.
    """
    n = len(x)
    if n <= MAX_POINTS:
        return np.arange(n)
    num_bins = (MAX_POINTS - 2) // 5
    space = np.geomspace if growing else np.linspace
    edges = np.unique(space(1, n + 1, num_bins + 1).round().astype(int)) - 1
    kept = {0, n - 1}
    for start, stop in itertools.pairwise(edges):
        inside = np.arange(start, stop)
        gap = np.isnan(y[inside])
        kept.update(inside[gap][:1].tolist())
        drawn = inside[~gap]
        if drawn.size:
            for values in (x[drawn], y[drawn]):
                kept.add(int(drawn[values.argmin()]))
                kept.add(int(drawn[values.argmax()]))
    return np.array(sorted(kept))
