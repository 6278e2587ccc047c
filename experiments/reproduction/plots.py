"""What a figure shows, whatever draws it: an interactive page, or a file for print."""

from collections.abc import Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike


class Curve(NamedTuple):
    """A curve, or points.

    name: in the legend; curves of one name (seeds) are toggled together.
    x, y: of the points; NaN in y is a gap.
    role: what it is, which chooses its colour: a mode ("plain", "dom", "bulk",
      "interpolated"), "warmup", "average", "tail", or "" for the next free colour. Over
      the colours of a `Map` all curves are dark, and their dashes tell them apart.
    points: whether to draw points instead of a line.
    errors: standard errors of y, drawn as bars both ways; empty for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    role: str = ""
    points: bool = False
    errors: Sequence[float] = ()


class Level(NamedTuple):
    """A horizontal or vertical line with a name, such as 2/lr or the switch."""

    name: str
    at: float
    vertical: bool = False


class Plot(NamedTuple):
    """One pair of axes with curves.

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


class Axis(NamedTuple):
    """An axis of a `Map`, with a column or a row of cells at each of its values.

    values: ascending numbers, at the cells' middles; or names, at the positions 0, 1,
      ... for curves and levels, those of rows from the top down.
    scale: of numbers: "linear"; "log"; or "symlog", which goes through zero: linear
      from -linear_within to linear_within, logarithmic beyond. Cells meet half way on
      this scale.
    """

    label: str
    values: Sequence[float] | Sequence[str]
    scale: str = "linear"
    linear_within: float = 0.0


class Mark(NamedTuple):
    """Cells that bear a sign, such as those whose runs diverged.

    name: in the legend. cells: [len(y)][len(x)], true where the sign is.
    """

    name: str
    cells: ArrayLike


class Map(NamedTuple):
    """One pair of axes with a number in each cell, as colour, beside a colour bar.

    x, y: the axes. z: the numbers, [len(y.values)][len(x.values)]; a cell with NaN or
      an infinite number stays empty.
    z_label: of the colour bar. z_log: whether colours follow the logarithm; then a cell
      without a positive number stays empty too, if there are no limits.
    center: None for colours that run from low to high; or the number in the middle of
      two hues, one for what is below it and one for what is above.
    limits: numbers at the ends of the colour bar; beyond, cells have the end's colour.
      None: the smallest and the largest one.
    marks: signs in some cells; an empty cell without one bears that of "no value".
    curves, levels: drawn over the cells. caption: as of a `Plot`.
    """

    title: str
    x: Axis
    y: Axis
    z: ArrayLike
    z_label: str
    z_log: bool = False
    center: float | None = None
    limits: tuple[float, float] | None = None
    marks: Sequence[Mark] = ()
    curves: Sequence[Curve] = ()
    levels: Sequence[Level] = ()
    caption: str = ""

    @property
    def x_label(self) -> str:
        """As of a `Plot`."""
        return self.x.label

    @property
    def y_label(self) -> str:
        """As of a `Plot`."""
        return self.y.label

    @property
    def log_x(self) -> bool:
        """As of a `Plot`."""
        return self.x.scale == "log"

    @property
    def log_y(self) -> bool:
        """As of a `Plot`."""
        return self.y.scale == "log"


Panel = Plot | Map
"""One figure of a report, with its own pair of axes."""
