"""What plotly draws of a map; `interactive` puts it on the page."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from experiments.reproduction import drawing, scales
from experiments.reproduction.cells import (
    Cells,
    Sign,
    cells,
    levels_within,
)
from experiments.reproduction.labels import for_plotly
from experiments.reproduction.plots import Axis, Curve, Level, Map
from experiments.reproduction.shades import colors

# Dark lines and signs have a rim in the colour of the page: each can be seen on light
# cells and on dark ones.
_INK, _RIM = "var(--ink)", "var(--paper)"

_HEIGHT = 450  # of a figure, in pixels

_SYMBOLS = {"cross": "x", "triangle": "triangle-up", "disc": "circle", "dot": "circle"}
_POINTS = dict(
    zip(drawing.DASHES, ("circle", "square", "diamond", "star"), strict=True)
)


def traces(shown: Map) -> list[Any]:
    """Return the cells with their colour bar, the signs, and the curves over them."""
    drawn = cells(shown)
    dashes = drawing.dashes(shown)
    named: set[str] = set()
    found = [
        _heatmap(shown, drawn),
        *(_sign(shown, sign, drawn) for sign in drawn.signs),
    ]
    for curve in shown.curves:
        found += _curve(shown, curve, dashes[curve.name], curve.name not in named)
        named.add(curve.name)
    return found


def axes(shown: Map) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is particular of the axes of x and y: extent and ticks."""
    x_axis, y_axis = _axis(shown.x), _axis(shown.y)
    if scales.has_names(shown.y):
        y_axis["range"].reverse()
    return x_axis, y_axis


def frame(shown: Map) -> dict[str, Any]:
    """Return what is particular of the layout: the colour bar's name, room for both."""
    name_of_level = any(level.vertical for level in shown.levels)
    return {
        "height": _HEIGHT,
        "margin": {"t": 98 if name_of_level else 84},
        # The colour bar's own title would not follow it above the axes. Below the
        # buttons that appear in the corner.
        "title": {
            "text": for_plotly(shown.z_label),
            "font": {"size": 14},
            "x": 0.5,
            "xref": "paper",
            "yref": "container",
            "y": 1 - 26 / _HEIGHT,
            "yanchor": "top",
        },
        # Unlike a plot's colours, signs and dashes are told by their size.
        "legend": {"itemsizing": "trace"},
    }


def levels(shown: Map) -> list[Level]:
    """Return the levels where plotly has them."""
    return [
        level._replace(
            at=float(_places(shown.x if level.vertical else shown.y, level.at))
        )
        for level in levels_within(shown)
    ]


def _places(axis: Axis, values: ArrayLike) -> np.ndarray:
    """Return values as plotly takes them, which has logarithms, but none through 0."""
    if axis.scale == "symlog":
        return scales.to_drawn(axis, values)
    return np.asarray(values, float)


def _axis(axis: Axis) -> dict[str, Any]:
    # A range is in logarithms where plotly has them, unlike all else.
    extent = scales.to_drawn(axis, scales.edges(axis)[[0, -1]])
    found: dict[str, Any] = {"range": extent.tolist(), "showgrid": False}
    found["title"] = {"standoff": 8}
    ticks = scales.ticks(axis)
    if ticks is not None:
        found["tickvals"] = _places(axis, [tick.at for tick in ticks]).tolist()
        found["ticktext"] = [for_plotly(tick.text) for tick in ticks]
    return found


def _heatmap(shown: Map, drawn: Cells) -> go.Heatmap:
    x = [for_plotly(name) for name in drawn.x.names]
    y = [for_plotly(name) for name in drawn.y.names]
    said = [
        [(x[j], y[i], for_plotly(text)) for j, text in enumerate(row)]
        for i, row in enumerate(drawn.said)
    ]
    names = [for_plotly(name) for name in (shown.x.label, shown.y.label, shown.z_label)]
    lines = (f"{name}: %{{customdata[{i}]}}" for i, name in enumerate(names))
    hues = colors(shown, 33)
    gap = 1 if drawn.are_large else 0
    return go.Heatmap(
        x=_places(shown.x, drawn.x.edges),
        y=_places(shown.y, drawn.y.edges),
        z=drawn.shades.cells.astype("float32"),
        zmin=drawn.shades.low,
        zmax=drawn.shades.high,
        colorscale=[[i / (len(hues) - 1), hue] for i, hue in enumerate(hues)],
        customdata=said,
        hovertemplate="<br>".join(lines) + "<extra></extra>",
        xgap=gap,
        ygap=gap,
        colorbar={
            # Above the axes, so that on a phone they keep their width.
            "orientation": "h",
            "yref": "container",
            "y": 1 - 46 / _HEIGHT,
            "yanchor": "top",
            "ypad": 0,
            "thickness": 12,
            "outlinewidth": 0,
            "tickangle": 0,
            "ticks": "outside",
            "tickcolor": _INK,
            "tickvals": [tick.at for tick in drawn.shades.ticks],
            "ticktext": [tick.text for tick in drawn.shades.ticks],
        },
    )


def _sign(shown: Map, sign: Sign, drawn: Cells) -> go.Scatter:
    """Return the signs of one kind, smaller where there are many cells."""
    name = for_plotly(sign.name)
    size = float(np.clip(160 / max(drawn.shades.cells.shape), 5, 10))
    rim = {"color": _RIM, "width": 1}
    marker = {"symbol": _SYMBOLS[sign.kind], "color": _INK, "size": size, "line": rim}
    if sign.kind == "dot":
        marker |= {"color": "var(--warmup)", "size": 3, "line": {"width": 0}}
    return go.Scatter(
        x=_places(shown.x, sign.x),
        y=_places(shown.y, sign.y),
        name=name,
        legendgroup=name,
        mode="markers",
        marker=marker,
        # What the cell says is enough.
        hoverinfo="skip",
    )


def _curve(shown: Map, curve: Curve, dash: str, is_first: bool) -> list[go.Scatter]:
    """Return a curve's rim and the curve, or its points."""
    points = drawing.points(curve, shown)
    name = for_plotly(curve.name)
    shared = {
        "x": _places(shown.x, points.x).astype("float32"),
        "y": _places(shown.y, points.y).astype("float32"),
        "name": name,
        "legendgroup": name,
        "mode": "markers" if curve.points else "lines",
    }
    line: dict[str, Any] = {"color": _INK, "width": 2, "dash": dash}
    hollow = f"{_POINTS[dash]}-open"
    over = go.Scatter(
        **shared,
        line=line,
        marker={"symbol": hollow, "color": _INK, "size": 9, "line": {"width": 2}},
        showlegend=is_first,
        customdata=np.stack([points.x, points.y], axis=1).astype("float32"),
        hovertemplate="%{fullData.name}<br>%{customdata[0]:.6~g}, "
        "%{customdata[1]:.4~g}<extra></extra>",
    )
    under = go.Scatter(
        **shared,
        line={"color": _RIM, "width": 5},
        marker={"symbol": hollow, "color": _RIM, "size": 9, "line": {"width": 5}},
        showlegend=False,
        hoverinfo="skip",
    )
    return [under, over]
