"""The figures of a page, drawn by plotly in the reader's browser.

A figure is an empty box and a JSON text. One script a page, `plotly_script`, draws them
all, in the colours of the page's CSS variables (`experiments.page.render`), and anew
when the reader changes between light and dark.
"""

import json
import math
from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from experiments.reproduction import interactive_map
from experiments.reproduction.drawing import levels, looks, points
from experiments.reproduction.labels import for_plotly
from experiments.reproduction.plots import Level, Map, Panel, Plot

_NOTHING = "rgba(0,0,0,0)"

_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'

_CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d"],
    "plotlyServerURL": "",
    "responsive": True,
    "showSendToCloud": False,
    "toImageButtonOptions": {"format": "svg"},
}

# With few ticks asked for, 1, 2 and 5 are labelled instead of all digits.
_LOGARITHMIC = {"type": "log", "nticks": 6}

# A figure keeps its zoom and its hidden curves when drawn anew ("uirevision").
_DRAW = """
(() => {
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const value = (_, name) => style.getPropertyValue(name).trim();
    for (const box of document.querySelectorAll(".plot")) {
      const text = box.nextElementSibling.textContent;
      const figure = JSON.parse(text.replace(/var\\((--[a-z]+)\\)/g, value));
      Plotly.react(box, figure.data, figure.layout, CONFIG);
    }
  };
  document.addEventListener("DOMContentLoaded", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
""".replace("CONFIG", json.dumps(_CONFIG))


def plotly_script() -> str:
    """Return plotly.js and the script that draws all figures, once for a page."""
    return f"<script>{get_plotlyjs()}</script>\n<script>{_DRAW}</script>"


def figure_html(panel: Panel, div_id: str) -> str:
    """Return a figure: its box with the id, and what is to be drawn there.

    Needs `plotly_script` and the CSS variables of `experiments.page.render` on the
    page. A click in the legend hides or shows all curves, or signs, of a
    name.

    Raises:
      ValueError: for what cannot be drawn (`drawing`, `cells`).
    """
    if isinstance(panel, Map):
        figure = go.Figure(interactive_map.traces(panel), _map_layout(panel))
        shown = f"{panel.z_label} over {panel.x_label} and {panel.y_label}"
    else:
        figure = go.Figure(_traces(panel), _layout(panel, levels(panel)))
        shown = f"{panel.y_label} over {panel.x_label}"
    label = escape(f"{panel.title}: {shown}")
    return (
        f'<div class="plot" id="{escape(div_id)}" role="img" aria-label="{label}">'
        "</div>"
        # plotly writes < and > as \\u003c and \\u003e: text can't end the element.
        f'<script type="application/json">{plotly.io.to_json(figure)}</script>'
    )


def _traces(plot: Plot) -> list[go.Scatter]:
    """Return the curves, the first of each name with its entry in the legend."""
    found, named, traces = looks(plot), set(), []
    for curve in plot.curves:
        drawn, look = points(curve, plot), found[curve.name]
        color = f"var(--{look.color})"
        name = for_plotly(curve.name)
        traces.append(
            go.Scatter(
                # Seven digits are more than a screen can show.
                x=drawn.x.astype("float32"),
                y=drawn.y.astype("float32"),
                name=name,
                legendgroup=name,
                showlegend=curve.name not in named,
                mode="markers" if curve.points else "lines",
                line={
                    "color": color,
                    "width": 1.2 * look.width,
                    "dash": "dash" if look.dashed else "solid",
                },
                error_y=_error_bars(drawn.errors, color),
                hovertemplate="%{fullData.name}<br>%{x:.6~g}, %{y:.4~g}<extra></extra>",
                marker={"color": color, "size": 7 if look.num_curves == 1 else 6},
            )
        )
        named.add(curve.name)
    return traces


def _error_bars(errors: np.ndarray | None, color: str) -> dict[str, object] | None:
    """Return bars of these lengths both ways."""
    if errors is None:
        return None
    lengths = errors.astype("float32")
    return {
        "type": "data",
        "array": lengths,
        "color": color,
        "thickness": 1,
        "width": 2,
    }


def _layout(panel: Panel, drawn: Sequence[Level]) -> go.Layout:
    """Return axes, levels and legend, on no ground of their own."""
    axis = {
        "color": "var(--ink)",
        "gridcolor": "var(--grid)",
        "linecolor": "var(--ink)",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickformat": "~g",
        "automargin": True,
    }
    x_axis = {**axis, "title": {"text": for_plotly(panel.x_label), "standoff": 8}}
    y_axis = {**axis, "title": {"text": for_plotly(panel.y_label)}}
    if panel.log_x:
        x_axis |= _LOGARITHMIC
    if panel.log_y:
        y_axis |= _LOGARITHMIC
    return go.Layout(
        template="none",
        uirevision="constant",
        autosize=True,
        height=380,
        margin={"l": 56, "r": 24, "t": 28, "b": 44},
        paper_bgcolor=_NOTHING,
        plot_bgcolor=_NOTHING,
        font={"family": _FONT, "size": 12, "color": "var(--ink)"},
        hovermode="closest",
        hoverlabel={"bgcolor": "var(--paper)", "font": {"color": "var(--ink)"}},
        modebar={
            "bgcolor": _NOTHING,
            "color": "var(--warmup)",
            "activecolor": "var(--ink)",
        },
        showlegend=True,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
        xaxis=x_axis,
        yaxis=y_axis,
        shapes=[_line(level) for level in drawn],
        annotations=_names(panel, drawn),
    )


def _map_layout(shown: Map) -> go.Layout:
    """Return the layout of a map: as of a plot, and room for the colour bar above."""
    drawn = interactive_map.levels(shown)
    layout = _layout(shown, drawn)
    x_axis, y_axis = interactive_map.axes(shown)
    layout.update(xaxis=x_axis, yaxis=y_axis, **interactive_map.frame(shown))
    rim = {"color": "var(--paper)", "width": 3}
    lines = [_line(level) | {"opacity": 1} for level in drawn]
    layout.shapes = [line | {"line": rim} for line in lines] + lines
    return layout


def _line(level: Level) -> dict[str, object]:
    """Return a level's dashed line across the axes."""
    along, across = ("y", "x") if level.vertical else ("x", "y")
    return {
        "type": "line",
        f"{along}ref": "paper",
        f"{along}0": 0,
        f"{along}1": 1,
        f"{across}0": level.at,
        f"{across}1": level.at,
        "line": {"color": "var(--ink)", "width": 1, "dash": "dash"},
        "opacity": 0.7,
    }


def _names(panel: Panel, drawn: Sequence[Level]) -> list[dict[str, object]]:
    """Return each level's name once: above the axes, or its line's right end."""
    first = {level.name: level for level in reversed(drawn)}
    names = []
    for name, level in first.items():
        logarithmic = panel.log_x if level.vertical else panel.log_y
        # What plotly places on a logarithmic axis is placed by its logarithm.
        at = math.log10(level.at) if logarithmic else level.at
        place: dict[str, object] = {
            "x": 1,
            "xref": "paper",
            "xanchor": "right",
            "y": at,
        }
        if level.vertical:
            place = {"y": 1, "yref": "paper", "xanchor": "center", "x": at}
        names.append(
            {
                **place,
                "text": for_plotly(name),
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11},
                "bgcolor": "var(--paper)",
                "borderpad": 1,
                "opacity": 0.85,
            }
        )
    return names
