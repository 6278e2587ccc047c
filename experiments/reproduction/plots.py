"""What a figure shows, whatever draws it: an interactive page, or a file for print."""

from collections.abc import Sequence
from typing import NamedTuple


class Curve(NamedTuple):
    """A curve, or points.

    name: in the legend; curves of one name (seeds) are toggled together.
    x, y: of the points; NaN in y is a gap.
    role: what it is, which chooses its colour: a mode ("plain", "dom", "bulk",
      "interpolated"), "warmup", "average", "tail", or "" for the next free colour.
    points: whether to draw points instead of a line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    role: str = ""
    points: bool = False


class Level(NamedTuple):
    """A horizontal or vertical line with a name, such as 2/lr or the switch."""

    name: str
    at: float
    vertical: bool = False


class Plot(NamedTuple):
    """One pair of axes.

    title, x_label, y_label: plain text; log_x, log_y: logarithmic axes.
    curves: in the order of the legend. levels: lines across. caption: a sentence or
    two, what to look at.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    levels: Sequence[Level] = ()
    log_x: bool = False
    log_y: bool = False
    caption: str = ""
