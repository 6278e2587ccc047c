"""Boundaries of a phase diagram, measured and predicted, and how they agree.

What is measured is a share of each cell, [rows, columns], such as that of the seeds
that diverged; NaN where it is unknown. What is predicted is a margin: a function that
is positive where runs are to be on the other side of the boundary.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import contourpy
import numpy as np

from experiments.reproduction import scales
from experiments.reproduction.plots import Axis, Curve

Margin = Callable[[np.ndarray, np.ndarray], Any]
"""Of x and y, two arrays of one shape, such as y lambda(x) - 2."""

_FINE = 257  # points along each axis, among which a margin's zeros are found

_Node = tuple[int, int]
"""Where edges of cells meet: by the edges' places among rows, and among columns."""


class Agreement(NamedTuple):
    """How a prediction agrees with what was measured.

    num_cells: whose share is known. right: the share of them on the predicted side.
    stable_but_diverged: the share of them that was predicted below the boundary and is
      beyond it. diverged_but_stable: the reverse. The three add up to 1.
    constant: what `right` would be if all cells were predicted to be on one side, the
      better one; a prediction that says something is above it.
    """

    num_cells: int
    right: float
    stable_but_diverged: float
    diverged_but_stable: float
    constant: float


def agreement(share: np.ndarray, predicted: np.ndarray) -> Agreement:
    """Hold a prediction to the measured share of each cell, beyond from a half on.

    Args:
      share: [rows, columns], NaN where it is unknown.
      predicted: [rows, columns], as of `predict`.

    Raises:
      ValueError: if their shapes differ.
    """
    if share.shape != predicted.shape:
        raise ValueError(
            f"share has the shape {share.shape}, but predicted {predicted.shape}"
        )
    known = ~np.isnan(share)
    if not known.any():
        return Agreement(0, *[math.nan] * 4)
    measured, expected = share[known] >= 0.5, predicted[known]
    beyond = float(np.mean(measured))
    return Agreement(
        num_cells=int(np.sum(known)),
        right=float(np.mean(measured == expected)),
        stable_but_diverged=float(np.mean(measured & ~expected)),
        diverged_but_stable=float(np.mean(~measured & expected)),
        constant=max(beyond, 1 - beyond),
    )


def predict(margin: Margin, x: Axis, y: Axis) -> np.ndarray:
    """Return whether the margin is positive in the middle of each cell.

    Raises:
      ValueError: if an axis has names, or the margin is not a number somewhere.
    """
    _check_numbers(x, y)
    found = _on_grid(margin, scales.middles(x), scales.middles(y))
    if np.isnan(found).any():
        raise ValueError("the margin is not a number in some cells")
    return found > 0


def boundary(name: str, share: np.ndarray, x: Axis, y: Axis) -> Curve:
    """Return the line between cells with a share of at least a half and of less.

    It goes along the edges of cells; none is drawn beside a cell whose share is NaN.
    """
    known, beyond = ~np.isnan(share), share >= 0.5
    segments: list[tuple[_Node, _Node]] = []
    beside = known[:, 1:] & known[:, :-1] & (beyond[:, 1:] != beyond[:, :-1])
    segments += [((i, j + 1), (i + 1, j + 1)) for i, j in np.argwhere(beside)]
    above = known[1:] & known[:-1] & (beyond[1:] != beyond[:-1])
    segments += [((i + 1, j), (i + 1, j + 1)) for i, j in np.argwhere(above)]
    x_edges, y_edges = scales.edges(x), scales.edges(y)
    lines = [
        np.array([(x_edges[j], y_edges[i]) for i, j in path])
        for path in _paths(segments)
    ]
    return _curve(name, lines)


def predicted_boundary(name: str, margin: Margin, x: Axis, y: Axis) -> Curve:
    """Return the line where a margin changes its sign.

    Found by linear interpolation along the axes as they are drawn, between 257 points
    on each; where the margin is not finite, there is none.

    Raises:
      ValueError: if an axis has names.
    """
    _check_numbers(x, y)
    drawn_x, drawn_y = _fine(x), _fine(y)
    found = _on_grid(margin, scales.to_values(x, drawn_x), scales.to_values(y, drawn_y))
    lines = contourpy.contour_generator(
        drawn_x,
        drawn_y,
        np.ma.masked_invalid(found),
        line_type=contourpy.LineType.Separate,
    ).lines(0.0)
    return _curve(name, [_to_values(x, y, np.asarray(line)) for line in lines])


def _fine(axis: Axis) -> np.ndarray:
    """Return evenly spaced points of an axis as it is drawn."""
    first, *_, last = scales.to_drawn(axis, scales.edges(axis))
    return np.linspace(first, last, _FINE)


def _to_values(x: Axis, y: Axis, line: np.ndarray) -> np.ndarray:
    columns = zip((x, y), line.T, strict=True)
    return np.stack([scales.to_values(axis, drawn) for axis, drawn in columns], axis=1)


def _check_numbers(*axes: Axis) -> None:
    for axis in axes:
        scales.check(axis)
        if scales.has_names(axis):
            raise ValueError(
                f"the axis {axis.label!r} has names, but a margin needs numbers"
            )


def _on_grid(margin: Margin, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the margin at all pairs, [len(y), len(x)]."""
    found = np.asarray(margin(*np.meshgrid(x, y)), float)
    return np.broadcast_to(found, (len(y), len(x)))


def _paths(segments: Iterable[tuple[_Node, _Node]]) -> list[list[_Node]]:
    """Join segments to paths, as long as they come, each segment in one of them."""
    neighbours: defaultdict[_Node, list[_Node]] = defaultdict(list)
    for a, b in segments:
        neighbours[a].append(b)
        neighbours[b].append(a)
    paths = []
    # From the ends of open paths first; what is left then are loops.
    for start in sorted(neighbours, key=lambda node: len(neighbours[node]) % 2 == 0):
        while neighbours[start]:
            path = [start]
            while neighbours[path[-1]]:
                following = neighbours[path[-1]].pop()
                neighbours[following].remove(path[-1])
                path.append(following)
            paths.append(path)
    return paths


def _curve(name: str, lines: list[np.ndarray]) -> Curve:
    """Return lines [n, 2] as one curve with gaps between them."""
    if not lines:
        return Curve(name, (), ())
    gap = np.full((1, 2), np.nan)
    joined = np.concatenate([part for line in lines for part in (line, gap)][:-1])
    return Curve(name, joined[:, 0].tolist(), joined[:, 1].tolist())
