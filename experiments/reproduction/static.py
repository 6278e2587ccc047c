"""The figures of an experiment as files for print: PNG and PDF."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image

from experiments import figures
from experiments.reproduction.drawing import Look, levels, looks, points
from experiments.reproduction.plots import Level, Plot

MAX_PNG_BYTES = 80_000
"""A larger PNG is drawn anew with fewer pixels, down to the coarsest of `_DPI`."""

_COLUMNS = 3
_DPI = (130, 110, 90, 70)
_INK = figures.LIGHT["ink"]


def write_static(plots: Sequence[Plot], folder: Path, stem: str) -> list[Path]:
    """Draw plots side by side, three in a row; return the paths of PNG and PDF.

    Raises:
      ValueError: without a plot, or for curves that cannot be drawn (`drawing`).
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
        image = Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE)
        image.save(file, format="png", optimize=True)
        if file.tell() <= MAX_PNG_BYTES:
            break
    path.write_bytes(file.getvalue())


def _draw(axes: Axes, plot: Plot) -> None:
    """Draw one plot, with its legend below."""
    found = looks(plot)
    for curve in plot.curves:
        drawn, look = points(curve, plot), found[curve.name]
        axes.plot(drawn.x, drawn.y, **_style(look, curve.points))
    for level in levels(plot):
        line = axes.axvline if level.vertical else axes.axhline
        line(level.at, color=_INK, linewidth=0.9, linestyle="--", alpha=0.6)
    if plot.log_x:
        figures.log_axis(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=6)
    if plot.log_y:
        figures.log_axis(axes.yaxis)
    _label_levels(axes, levels(plot))
    # Above the names of vertical levels.
    axes.set_title(_plain(plot.title), pad=18)
    axes.set(xlabel=_plain(plot.x_label), ylabel=_plain(plot.y_label))
    _legend(axes, plot, found)


def _style(look: Look, as_points: bool) -> dict[str, Any]:
    """Return matplotlib's names for a look."""
    color = figures.LIGHT[look.color]
    if as_points:
        size = 5.0 if look.num_curves == 1 else 4.0
        return {"color": color, "ls": "", "marker": "o", "ms": size, "mew": 0}
    return {"color": color, "ls": "--" if look.dashed else "-", "lw": look.width}


def _legend(axes: Axes, plot: Plot, found: dict[str, Look]) -> None:
    """Name each colour once, below the axes, where it covers no curve."""
    as_points = {curve.name: curve.points for curve in plot.curves}
    handles = [
        Line2D([], [], **_style(look._replace(num_curves=1), as_points[name]))
        for name, look in found.items()
    ]
    for handle in handles:
        handle.set_linewidth(max(handle.get_linewidth(), 1.5))
    if handles:
        longest = max(map(len, found))
        axes.legend(
            handles,
            [_plain(name) for name in found],
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
            _plain(name),
            at,
            xycoords=where,
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8.5,
            horizontalalignment=side,
            verticalalignment="bottom",
            path_effects=halo,
        )


def _plain(text: str) -> str:
    """Return text that matplotlib doesn't read as a formula."""
    return text.replace("$", r"\$")
