"""The figures of an experiment as files for print: PNG and PDF."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image

from experiments import figures
from experiments.reproduction.cells import levels_within
from experiments.reproduction.drawing import Look, levels, looks, points
from experiments.reproduction.labels import for_matplotlib
from experiments.reproduction.plots import Level, Map, Panel, Plot
from experiments.reproduction.static_map import draw_map

MAX_PNG_BYTES = 80_000
"""A larger PNG is drawn anew with fewer pixels, down to the coarsest of `_DPI`."""

_COLUMNS = 3
_DPI = (130, 110, 90, 70)
_INK = figures.LIGHT["ink"]


def write_static(plots: Sequence[Panel], folder: Path, stem: str) -> list[Path]:
    """Draw plots side by side, three in a row; return the paths of PNG and PDF.

    Raises:
      ValueError: without a plot, or for one that cannot be drawn (`drawing`, `cells`).
    """
    if not plots:
        raise ValueError(f"no plots for {stem!r}, but expected at least one")
    paths = [folder / f"{stem}.png", folder / f"{stem}.pdf"]
    columns = min(len(plots), _COLUMNS)
    rows = -(-len(plots) // columns)
    # TrueType letters, which can be searched and edited, instead of outlines.
    with figures.style({"pdf.fonttype": 42}):
        size = (4.9 * columns, 4.3 * rows)
        layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.04)
        figure = Figure(figsize=size, layout=layout, facecolor="white")
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, plot in zip(all_axes, plots, strict=False):
            _draw(axes, plot)
        for axes in all_axes[len(plots) :]:
            axes.remove()
        _save_png(figure, paths[0])
        # Without the date, so that the same runs give the same file.
        figure.savefig(paths[1], metadata={"CreationDate": None})
    return paths


def _save_png(figure: Figure, path: Path) -> None:
    """Write the figure in few colours, in the finest resolution that stays small."""
    for dpi in _DPI:
        drawn, file = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi)
        image = _in_few_colors(Image.open(drawn).convert("RGB"))
        image.save(file, format="png", optimize=True)
        if file.tell() <= MAX_PNG_BYTES:
            break
    path.write_bytes(file.getvalue())


def _in_few_colors(image: Image.Image) -> Image.Image:
    """Keep the 256 most frequent colours, and replace each other one by the nearest.

    So that cells of maps keep theirs, which say numbers; what is replaced are pixels at
    the rims of lines and letters.
    """
    # As one number each, which are faster to sort than rows of three.
    pixels = np.asarray(image) @ np.array([1 << 16, 1 << 8, 1])
    codes, place, count = np.unique(pixels, return_inverse=True, return_counts=True)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(
        float
    )
    kept = colors[np.argsort(-count, kind="stable")[:256]]
    # Of |color - kept|^2, what differs between the kept ones, negative and halved.
    nearness = colors @ kept.T - np.sum(kept**2, axis=1) / 2
    reduced = Image.fromarray(nearness.argmax(axis=1).astype(np.uint8)[place])
    reduced.putpalette(kept.astype(np.uint8).tobytes())
    return reduced


def _draw(axes: Axes, panel: Panel) -> None:
    """Draw one panel, with its legend below."""
    if isinstance(panel, Map):
        handles = _draw_map(axes, panel)
    else:
        handles = _draw_plot(axes, panel)
    # Above the names of vertical levels.
    axes.set_title(for_matplotlib(panel.title), pad=18)
    axes.set_xlabel(for_matplotlib(panel.x_label))
    axes.set_ylabel(for_matplotlib(panel.y_label))
    _legend(axes, handles)


def _draw_map(axes: Axes, shown: Map) -> dict[str, Line2D]:
    """Draw a map; return one line or sign of each name, for the legend."""
    handles = draw_map(axes, shown)
    drawn = levels_within(shown)
    for rim in _draw_levels(axes, drawn):
        rim.set(color="white", linestyle="-", linewidth=2.5)
    for line in _draw_levels(axes, drawn):
        line.set_alpha(1)
    _label_levels(axes, drawn)
    return handles


def _draw_plot(axes: Axes, plot: Plot) -> dict[str, Line2D]:
    """Draw a plot; return one line of each name, for the legend."""
    found = looks(plot)
    handles = {}
    for curve in plot.curves:
        drawn, look = points(curve, plot), found[curve.name]
        axes.plot(drawn.x, drawn.y, **_style(look, curve.points))
        if drawn.errors is not None:
            axes.errorbar(
                drawn.x,
                drawn.y,
                drawn.errors,
                fmt="none",
                ecolor=figures.LIGHT[look.color],
                elinewidth=0.7,
                capsize=1.5,
            )
        handle = Line2D([], [], **_style(look._replace(num_curves=1), curve.points))
        handle.set_linewidth(max(handle.get_linewidth(), 1.5))
        handles[curve.name] = handle
    _draw_levels(axes, levels(plot))
    if plot.log_x:
        figures.log_axis(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=6)
    if plot.log_y:
        figures.log_axis(axes.yaxis)
    _label_levels(axes, levels(plot))
    return handles


def _draw_levels(axes: Axes, drawn: Sequence[Level]) -> list[Line2D]:
    lines = []
    for level in drawn:
        line = axes.axvline if level.vertical else axes.axhline
        lines.append(
            line(level.at, color=_INK, linewidth=0.9, linestyle="--", alpha=0.6)
        )
    return lines


def _style(look: Look, as_points: bool) -> dict[str, Any]:
    """Return matplotlib's names for a look."""
    color = figures.LIGHT[look.color]
    if as_points:
        size = 5.0 if look.num_curves == 1 else 4.0
        return {"color": color, "ls": "", "marker": "o", "ms": size, "mew": 0}
    return {"color": color, "ls": "--" if look.dashed else "-", "lw": look.width}


def _legend(axes: Axes, handles: Mapping[str, Line2D]) -> None:
    """Name each line or sign once, below the axes, where it covers nothing."""
    if handles:
        longest = max(map(len, handles))
        axes.legend(
            handles.values(),
            [for_matplotlib(name) for name in handles],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=max(1, min(len(handles), 50 // (longest + 6))),
            columnspacing=1.4,
            handlelength=1.6,
        )


def _label_levels(axes: Axes, drawn: Sequence[Level]) -> None:
    """Write each level's name once: above the axes, or above its line's right end."""
    halo = [withStroke(linewidth=2.5, foreground="white")]
    # The first of each name.
    for name, level in {level.name: level for level in reversed(drawn)}.items():
        if level.vertical:
            at, where, side = (level.at, 1.0), axes.get_xaxis_transform(), "center"
        else:
            at, where, side = (1.0, level.at), axes.get_yaxis_transform(), "right"
        axes.annotate(
            for_matplotlib(name),
            at,
            xycoords=where,
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8.5,
            horizontalalignment=side,
            verticalalignment="bottom",
            path_effects=halo,
        )
