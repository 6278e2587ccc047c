"""The axes of maps: where cells begin and end, and which values are written there."""

from typing import NamedTuple

import numpy as np
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator
from matplotlib.transforms import Transform
from numpy.typing import ArrayLike

from experiments.reproduction.plots import Axis

SCALES = ("linear", "log", "symlog")

MOST_NAMES = 24
"""Of more names on an axis, only every n-th is written."""


class Tick(NamedTuple):
    """A value that is written: where on the axis, in its values, and how."""

    at: float
    text: str


def check(axis: Axis) -> None:
    """Raise ValueError for an axis that cannot be drawn."""
    name, values = f"the axis {axis.label!r}", axis.values
    if axis.scale not in SCALES:
        raise ValueError(
            f"{name} has the unknown scale {axis.scale!r}, but expected one of: "
            f"{', '.join(SCALES)}"
        )
    if not len(values):
        raise ValueError(f"{name} has no values, but expected at least one")
    if has_names(axis):
        if axis.scale != "linear":
            raise ValueError(f"{name} has names, but the scale {axis.scale!r}")
        return
    numbers = np.asarray(values, float)
    if not np.all(np.isfinite(numbers)) or np.any(np.diff(numbers) <= 0):
        raise ValueError(f"{name} has values that are not finite or not ascending")
    if axis.scale == "log" and numbers[0] <= 0:
        raise ValueError(f"{name} is logarithmic, but has the value {numbers[0]:g}")
    if (axis.scale == "symlog") != (axis.linear_within > 0):
        raise ValueError(
            f"{name} has the scale {axis.scale!r} and linear_within = "
            f"{axis.linear_within:g}, but expected a positive number for 'symlog' and "
            "0 for the others"
        )


def has_names(axis: Axis) -> bool:
    """Return whether an axis has names instead of numbers."""
    return isinstance(axis.values[0], str)


def middles(axis: Axis) -> np.ndarray:
    """Return where the middles of the cells are, [n]: the values, or 0, 1, ..."""
    if has_names(axis):
        return np.arange(len(axis.values), dtype=float)
    return np.asarray(axis.values, float)


def edges(axis: Axis) -> np.ndarray:
    """Return where cells begin and end, [n + 1], in the axis' values.

    They meet half way between their middles as these are drawn, so that on a
    logarithmic axis the edge is the geometric mean. The first and the last cell are as
    wide on both sides; a single one is a unit, or a decade.
    """
    drawn = to_drawn(axis, middles(axis))
    if len(drawn) == 1:
        return to_values(axis, drawn[0] + np.array([-0.5, 0.5]))
    between = (drawn[1:] + drawn[:-1]) / 2
    ends = 2 * drawn[0] - between[0], 2 * drawn[-1] - between[-1]
    return to_values(axis, np.array([ends[0], *between, ends[1]]))


def to_drawn(axis: Axis, values: ArrayLike) -> np.ndarray:
    """Return lengths along the axis from its values: the inverse of `to_values`.

    On a "symlog" axis the way from 0 to linear_within is 10/9 linear_within long, and
    each decade from there on is linear_within, as matplotlib has it.
    """
    numbers = np.asarray(values, float)
    if axis.scale == "log":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(numbers)
    if axis.scale == "symlog":
        return _along(_symlog(axis), numbers)
    return numbers


def to_values(axis: Axis, drawn: ArrayLike) -> np.ndarray:
    """Return the axis' values from lengths along it."""
    lengths = np.asarray(drawn, float)
    if axis.scale == "log":
        return 10.0**lengths
    if axis.scale == "symlog":
        return _along(_symlog(axis).inverted(), lengths)
    return lengths


def _symlog(axis: Axis) -> SymmetricalLogTransform:
    return SymmetricalLogTransform(10, axis.linear_within, 1)


def _are_few(axis: Axis) -> bool:
    """Return whether there is room to write every value."""
    drawn = to_drawn(axis, middles(axis))
    ends = to_drawn(axis, edges(axis))[[0, -1]]
    gaps = np.diff(drawn, append=np.inf)
    return len(drawn) <= 7 and bool(gaps.min() >= 0.11 * (ends[1] - ends[0]))


def _short(value: float | str) -> str:
    """Return a number in three digits, or all of them if it is whole."""
    number = float(value)
    return f"{number:g}" if number == round(number) else f"{number:.3g}"


def _along(transform: Transform, values: np.ndarray) -> np.ndarray:
    """Apply a transform of one dimension to an array of any shape."""
    found = transform.transform_non_affine(np.atleast_1d(values))
    return np.asarray(found).reshape(values.shape)


def ticks(axis: Axis) -> list[Tick] | None:
    """Return what is written on an axis of names, of few values, or through zero.

    None for others: the renderers choose, as the reader zooms.
    """
    if has_names(axis):
        every = -(-len(axis.values) // MOST_NAMES)
        return [Tick(i, str(axis.values[i])) for i in range(0, len(axis.values), every)]
    if _are_few(axis):
        return [Tick(float(at), _short(at)) for at in axis.values]
    if axis.scale != "symlog":
        return None
    first, *_, last = edges(axis)
    locator = SymmetricalLogLocator(_symlog(axis))
    locator.set_params(numticks=8)
    found = locator.tick_values(first, last)
    if max(-first, last) <= axis.linear_within:
        found = MaxNLocator(6).tick_values(first, last)
    return [Tick(float(at), f"{at:.6g}") for at in found if first <= at <= last]
