"""The cells of a map as they are drawn: their colours, their signs, what they say."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.reproduction import scales
from experiments.reproduction.plots import Axis, Level, Map
from experiments.reproduction.shades import Shades, shades

MAX_SIDE = 150
"""Of more rows, or columns, neighbouring ones are joined to at most so many."""

MOST_SIGNS = 40
"""Along an axis; of more cells, one sign stands for several."""

SIGNS = ("cross", "triangle", "disc")
"""Of a map's marks, in turn; empty cells without a mark have a "dot"."""

NO_VALUE = "no value"
"""In the legend: the cells with a dot."""


class Side(NamedTuple):
    """What is drawn along one axis: edges [n + 1] of the cells, and their names [n]."""

    edges: np.ndarray
    names: list[str]


class Sign(NamedTuple):
    """A sign in some cells: which one, its name, and where it stands, x and y [n]."""

    kind: str
    name: str
    x: np.ndarray
    y: np.ndarray


class Cells(NamedTuple):
    """The cells of a map that are drawn.

    x, y: along the axes. shades: of the cells. signs: in the legend's order.
    said: [rows][columns] texts: the number, if there is one, and the marks.
    left_out: how many numbers could not be drawn, as they are infinite or not positive;
      not counting those in cells that bear a mark.
    joined: whether neighbouring cells were joined; the largest number is drawn.
    """

    x: Side
    y: Side
    shades: Shades
    signs: list[Sign]
    said: list[list[str]]
    left_out: int
    joined: bool

    @property
    def are_large(self) -> bool:
        """Whether there is room for lines between them."""
        return max(self.shades.cells.shape) <= 30


def cells(shown: Map) -> Cells:
    """Return what is drawn of a map's cells.

    Raises:
      ValueError: for an axis that cannot be drawn (`scales.check`); numbers or marks of
        another shape than the axes; more marks than `SIGNS`, or two of one name; and
        limits or a center that are not on the colours' scale (`shades`).
    """
    scales.check(shown.x)
    scales.check(shown.y)
    z = _of_cells(shown, shown.z, "z").astype(float)
    marks = _marks(shown)
    below = -np.inf if not shown.z_log or shown.limits is not None else 0
    drawable = np.isfinite(z) & (z > below)
    explained = np.any([drawable, np.isnan(z), *marks.values()], axis=0)
    by = [_joined_by(axis) for axis in (shown.y, shown.x)]
    z = _join(np.fmax, np.where(drawable, z, np.nan), by)
    marks = {name: _join(np.logical_or, mark, by) for name, mark in marks.items()}
    x, y = _side(shown.x, by[1]), _side(shown.y, by[0])
    return Cells(
        x=x,
        y=y,
        shades=shades(shown, z),
        signs=_signs(shown, z, marks, x, y),
        said=_said(z, marks),
        left_out=int(np.sum(~explained)),
        joined=max(by) > 1,
    )


def levels_within(shown: Map) -> list[Level]:
    """Return the levels that cross a map's cells."""
    ends_x, ends_y = (scales.edges(axis)[[0, -1]] for axis in (shown.x, shown.y))

    def crosses(level: Level) -> bool:
        first, last = ends_x if level.vertical else ends_y
        return bool(first <= level.at <= last)

    return [level for level in shown.levels if crosses(level)]


def _of_cells(shown: Map, values: ArrayLike, name: str) -> np.ndarray:
    """Return values as an array [rows, columns]."""
    found = np.asarray(values)
    shape = len(shown.y.values), len(shown.x.values)
    if found.shape != shape:
        raise ValueError(
            f"{name!r} of the map {shown.title!r} has the shape {found.shape}, but "
            f"expected (rows, columns) = {shape}"
        )
    return found


def _marks(shown: Map) -> dict[str, np.ndarray]:
    """Return the cells of each mark, [rows, columns], by its name."""
    names = [mark.name for mark in shown.marks]
    if len(names) > len(SIGNS) or len({*names, NO_VALUE}) <= len(names):
        raise ValueError(
            f"the map {shown.title!r} has the marks {', '.join(names)}, but expected "
            f"at most {len(SIGNS)}, of different names other than {NO_VALUE!r}"
        )
    return {
        mark.name: _of_cells(shown, mark.cells, mark.name).astype(bool)
        for mark in shown.marks
    }


def _joined_by(axis: Axis) -> int:
    """Return how many neighbouring cells become one; those with names stay apart."""
    return 1 if scales.has_names(axis) else -(-len(axis.values) // MAX_SIDE)


def _join(combine: np.ufunc, values: np.ndarray, by: Sequence[int]) -> np.ndarray:
    for axis, size in enumerate(by):
        starts = np.arange(0, values.shape[axis], size)
        values = combine.reduceat(values, starts, axis=axis)
    return values


def _side(axis: Axis, by: int) -> Side:
    edges = scales.edges(axis)
    if scales.has_names(axis):
        return Side(edges, [str(name) for name in axis.values])
    edges = edges[[*range(0, len(axis.values), by), -1]]
    middles = scales.middles(axis) if by == 1 else _between(axis, edges)
    return Side(edges, [f"{middle:.6g}" for middle in middles])


def _between(axis: Axis, edges: np.ndarray) -> np.ndarray:
    """Return what is half way between edges as they are drawn, in the axis' values."""
    drawn = scales.to_drawn(axis, edges)
    return scales.to_values(axis, (drawn[1:] + drawn[:-1]) / 2)


def _signs(
    shown: Map, z: np.ndarray, marks: Mapping[str, np.ndarray], x: Side, y: Side
) -> list[Sign]:
    """Return the signs of the marks, and of the empty cells that have none."""
    missing = np.isnan(z) & ~np.any([np.zeros(z.shape, bool), *marks.values()], axis=0)
    wanted = [*zip(SIGNS, marks, marks.values(), strict=False)]
    wanted.append(("dot", NO_VALUE, missing))
    columns_at, rows_at = _between(shown.x, x.edges), _between(shown.y, y.edges)
    found = []
    for kind, name, where in wanted:
        rows, columns = _spread(where)
        if rows.size:
            found.append(Sign(kind, name, columns_at[columns], rows_at[rows]))
    return found


def _spread(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of true cells: of many cells, one in each block."""
    rows, columns = np.nonzero(where)
    height, width = (-(-size // MOST_SIGNS) for size in where.shape)
    blocks = np.stack([rows // height, columns // width])
    _, first = np.unique(blocks, axis=1, return_index=True)
    return rows[first], columns[first]


def _said(z: np.ndarray, marks: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Return what each cell says when it is pointed at."""

    def text(i: int, j: int) -> str:
        words = [name for name, mark in marks.items() if mark[i, j]]
        if not np.isnan(z[i, j]):
            words.insert(0, f"{z[i, j]:.4g}")
        return ", ".join(words) or NO_VALUE

    rows, columns = z.shape
    return [[text(i, j) for j in range(columns)] for i in range(rows)]
