"""What matplotlib draws of a map; `static` makes the file."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as DrawnAxis
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from experiments import figures
from experiments.reproduction import drawing, scales
from experiments.reproduction.cells import Cells, Sign, cells
from experiments.reproduction.labels import for_matplotlib
from experiments.reproduction.plots import Axis, Curve, Map
from experiments.reproduction.shades import colors

_INK = figures.LIGHT["ink"]
_SIGNS = {"cross": "X", "triangle": "^", "disc": "o", "dot": "."}
_LINES = dict(zip(drawing.DASHES, ("-", "--", ":", "-."), strict=True))
_POINTS = dict(zip(drawing.DASHES, ("o", "s", "D", "*"), strict=True))
# So many that two maps of different colours have no more than a PNG can.
_SHADES = 64
# Of more cells, a PDF would be slow to show: they are drawn as a picture inside it.
_MOST_RECTANGLES = 2500


def draw_map(axes: Axes, shown: Map) -> dict[str, Line2D]:
    """Draw cells, colour bar, signs and curves; return one of each for the legend."""
    drawn = cells(shown)
    _draw_cells(axes, shown, drawn)
    _scale(axes.xaxis, shown.x)
    _scale(axes.yaxis, shown.y)
    if scales.has_names(shown.y):
        axes.invert_yaxis()
    handles = {}
    for sign in drawn.signs:
        (handles[sign.name],) = axes.plot(sign.x, sign.y, **_sign_style(sign, drawn))
    dashes = drawing.dashes(shown)
    for curve in shown.curves:
        points = drawing.points(curve, shown)
        rim, style = _curve_styles(curve, dashes[curve.name])
        axes.plot(points.x, points.y, **rim)
        (handles[curve.name],) = axes.plot(points.x, points.y, **style)
    return handles


def _draw_cells(axes: Axes, shown: Map, drawn: Cells) -> None:
    """Draw the cells, with lines between them where they are large; the colour bar."""
    mesh = axes.pcolormesh(
        drawn.x.edges,
        drawn.y.edges,
        np.ma.masked_invalid(drawn.shades.cells),
        cmap=ListedColormap(colors(shown, _SHADES)),
        vmin=drawn.shades.low,
        vmax=drawn.shades.high,
        edgecolors="white" if drawn.are_large else "none",
        linewidth=0.4 if drawn.are_large else 0,
        rasterized=drawn.shades.cells.size > _MOST_RECTANGLES,
    )
    axes.grid(visible=False)
    axes.set_xlim(drawn.x.edges[0], drawn.x.edges[-1])
    axes.set_ylim(drawn.y.edges[0], drawn.y.edges[-1])
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.03, aspect=24)
    bar.set_label(for_matplotlib(shown.z_label))
    bar.outline.set_visible(False)
    bar.set_ticks(
        [tick.at for tick in drawn.shades.ticks],
        labels=[tick.text for tick in drawn.shades.ticks],
    )
    bar.minorticks_off()


def _scale(drawn: DrawnAxis, axis: Axis) -> None:
    """Give an axis its scale and its ticks."""
    axes = drawn.axes
    set_scale = axes.set_xscale if drawn is axes.xaxis else axes.set_yscale
    if axis.scale == "log":
        figures.log_axis(drawn)
    elif axis.scale == "symlog":
        set_scale("symlog", linthresh=axis.linear_within)
    else:
        drawn.set_major_locator(MaxNLocator(6))
    ticks = scales.ticks(axis)
    if ticks is not None:
        texts = [for_matplotlib(tick.text) for tick in ticks]
        # Long names stand upright below the axes, where they would touch each other.
        rotation = 90 if drawn is axes.xaxis and len("  ".join(texts)) > 45 else 0
        drawn.set_ticks([tick.at for tick in ticks], labels=texts, rotation=rotation)
        drawn.set_minor_locator(NullLocator())


def _sign_style(sign: Sign, drawn: Cells) -> dict[str, Any]:
    """Return the look of signs, smaller where there are many cells."""
    size = float(np.clip(110 / max(drawn.shades.cells.shape), 4, 7))
    style = {"ls": "", "marker": _SIGNS[sign.kind], "color": _INK}
    if sign.kind == "dot":
        return style | {"color": figures.LIGHT["warmup"], "ms": 3}
    return style | {"ms": size, "mec": "white", "mew": 0.6}


def _curve_styles(curve: Curve, dash: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the looks of a curve's white rim, seen on dark cells, and of the curve."""
    if curve.points:
        hollow = {"ls": "", "marker": _POINTS[dash], "mfc": "none", "ms": 6}
        return {**hollow, "mec": "white", "mew": 3.2}, {
            **hollow,
            "mec": _INK,
            "mew": 1.4,
        }
    return {"color": "white", "lw": 3.6}, {"color": _INK, "ls": _LINES[dash], "lw": 1.6}
