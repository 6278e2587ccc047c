"""The figures of a report: loss, alignment and spectrum of one run.

Each panel is a function that draws on given axes. Together they make one picture for a
README (`save_png`); apart they go into a page as SVG (`panel_svg`), whose colours are
CSS variables, so that the page can be light or dark.
"""

import html
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.summary import BRANCHES, WARMUP, Line, of_branch

Draw = Callable[[Axes], None]

LABELS: Mapping[str, str] = {
    "warmup": "warm-up",
    "plain": "plain",
    "dom": "Dom",
    "bulk": "Bulk",
    "interpolated": "interpolated",
}

# Okabe and Ito's palette: distinct for the colour-blind. By name, for light and dark.
COLORS: Mapping[str, tuple[str, str]] = {
    "ink": ("#1f2328", "#e6e8eb"),
    "grid": ("#dfe2e6", "#343a42"),
    "warmup": ("#8b929c", "#8d95a0"),
    "plain": ("#0072b2", "#56b4e9"),
    "dom": ("#d55e00", "#ff9447"),
    "bulk": ("#009e73", "#2fc79a"),
    "interpolated": ("#cc79a7", "#e39ec6"),
    "tail": ("#b3b9c1", "#5b636e"),
    # Of no part of a run: what else is compared.
    "indigo": ("#4b3f9e", "#a99df2"),
    "amber": ("#a36a00", "#e3b341"),
    "wine": ("#8c2455", "#e88aae"),
    "cyan": ("#17869c", "#66d0e4"),
    "olive": ("#72741c", "#c3c560"),
    "brown": ("#7a553a", "#c9a283"),
}
LIGHT = {name: light for name, (light, _) in COLORS.items()}

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": LIGHT["ink"],
    "axes.grid": True,
    "axes.labelcolor": LIGHT["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 10,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["ink"],
    "ytick.color": LIGHT["ink"],
}


class Seed(NamedTuple):
    """What is drawn of one seed: its lines, and where it switched, if it did."""

    lines: Sequence[Line]
    switch_step: int | None


def draw_loss(axes: Axes, seeds: Sequence[Seed]) -> None:
    """Draw the full training loss of every branch, on a logarithmic axis."""

    def logarithmic(loss: float) -> float:
        return loss if loss > 0 else math.nan

    for part in (WARMUP, *BRANCHES):
        _draw_part(axes, seeds, part, "loss/full", logarithmic)
    _mark_switches(axes, seeds)
    log_axis(axes.yaxis)
    axes.set(xlabel="step", ylabel="full training loss")


def draw_alignment(
    axes: Axes, seeds: Sequence[Seed], k: int, threshold: float | None
) -> None:
    """Draw chi_k of the full gradient; where it decides, its average and threshold."""
    for part in (WARMUP, *BRANCHES):
        _draw_part(axes, seeds, part, "alignment/gradient")
    _mark_switches(axes, seeds)
    axes.set(xlabel="step", ylabel=rf"alignment $\chi_{{{k}}}$", ylim=(0, 1.03))
    if threshold is None:
        return
    ink = LIGHT["ink"]
    averages = [_series(seed.lines, WARMUP, "alignment/average") for seed in seeds]
    drawn = [axes.plot(*average, color=ink)[0] for average in averages]
    drawn[0].set_label("moving average")
    label = f"threshold {threshold:g}"
    rule = axes.axhline(threshold, color=ink, linewidth=0.9, ls=":", label=label)
    axes.legend(handles=[drawn[0], rule], loc="lower right")


def draw_spectrum(axes: Axes, seed: Seed, k: int) -> None:
    """Draw the top eigenvalues along warm-up and plain branch, the first k coloured.

    Values that are not positive are left out; `num_not_positive` counts them.
    """
    logged = spectrum_lines(seed.lines)
    steps = [line["step"] for line in logged]
    spectra = [line["spectrum/eigenvalues"] for line in logged]
    count = min(map(len, spectra), default=0)
    for index in reversed(range(count)):
        values = [spectrum[index] for spectrum in spectra]
        shown = [value if value > 0 else math.nan for value in values]
        color = LIGHT["plain" if index < k else "tail"]
        axes.plot(steps, shown, color=color, linewidth=1.1)
        if index in (0, k - 1, k) and shown[-1] > 0:
            _label_end(axes, steps[-1], shown[-1], rf"$\lambda_{{{index + 1}}}$")
    _mark_switches(axes, [seed])
    log_axis(axes.yaxis)
    axes.set(xlabel="step", ylabel="Hessian eigenvalues")


def spectrum_lines(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with a spectrum, of the warm-up and of the plain branch."""
    along = of_branch(lines, WARMUP) + of_branch(lines, "plain")
    return [line for line in along if line.get("spectrum/eigenvalues")]


def num_not_positive(lines: Sequence[Line]) -> tuple[int, int]:
    """Count the eigenvalues that `draw_spectrum` leaves out, and all of them."""
    spectra = [line["spectrum/eigenvalues"] for line in spectrum_lines(lines)]
    values = [value for spectrum in spectra for value in spectrum]
    return sum(not value > 0 for value in values), len(values)


def panel_svg(draw: Draw, title: str) -> str:
    """Draw one panel as an SVG element to be put into a page.

    Args:
      draw: draws on the axes that it is given.
      title: what the picture shows, for those who cannot see it.
    """
    file = io.StringIO()
    # Ids must differ between the pictures of a page, and not between two builds of it.
    with style({"svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # matplotlib's names repeat in a page
    for name, (light, _) in COLORS.items():
        svg = svg.replace(light, f"var(--{name})")
    label = html.escape(title, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


_NO_METADATA: dict[str, Any] = {
    "Creator": None,
    "Date": None,
    "Format": None,
    "Type": None,
}


def save_png(path: Path, draws: Mapping[str, Draw]) -> None:
    """Draw all panels side by side, each under its title, with one legend above."""
    with style({}):
        figure = Figure(figsize=(4.9 * len(draws), 3.9), layout="constrained")
        for axes, (title, draw) in zip(
            figure.subplots(1, len(draws), squeeze=False)[0], draws.items(), strict=True
        ):
            draw(axes)
            axes.set_title(title)
        handles, _ = figure.axes[0].get_legend_handles_labels()
        if handles:
            columns = len(handles)
            figure.legend(
                handles=handles, loc="outside upper center", ncols=columns, fontsize=10
            )
        figure.savefig(path, dpi=130, facecolor="white")


@contextmanager
def style(extra: dict[Any, Any]) -> Iterator[None]:
    """Set matplotlib's parameters, and these ones, for figures drawn in the block."""
    with mpl.rc_context({**_STYLE, **extra}):
        yield


def _series(
    lines: Sequence[Line], part: str, name: str
) -> tuple[list[int], list[float]]:
    """Return the steps and the values of one metric in one branch."""
    logged = [line for line in of_branch(lines, part) if name in line]
    return [line["step"] for line in logged], [
        line[name] if math.isfinite(line[name]) else math.nan for line in logged
    ]


def _draw_part(
    axes: Axes,
    seeds: Sequence[Seed],
    part: str,
    name: str,
    shown: Callable[[float], float] = float,
) -> None:
    """Draw one part of a run: a branch as its running mean over the pale values.

    The warm-up changes too fast at its start for a mean, and is drawn as it is. Of
    several seeds each has its curve, of one colour and without pale values.
    """
    color, label = LIGHT[part], LABELS[part]
    # Wider, so that it shows below a branch that follows it closely.
    linewidth = 2.2 if part == "plain" else 1.3
    for seed in seeds:
        steps, values = _series(seed.lines, part, name)
        values = [shown(value) for value in values]
        width = 1 if part == WARMUP else max(1, len(values) // 100)
        if width > 1 and len(seeds) == 1:
            axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
        if steps:
            smooth = _running_mean(values, width)
            axes.plot(
                steps,
                smooth,
                color=color,
                label=label,
                linewidth=linewidth / len(seeds) ** 0.5,
            )
            label = "_"  # one entry in the legend


def _running_mean(values: Sequence[float], width: int) -> np.ndarray:
    """Average over the finite of the `width` values around each finite one."""
    finite, window = np.isfinite(values), np.ones(width)
    sums = np.convolve(np.where(finite, values, 0.0), window, mode="same")
    counts = np.convolve(finite, window, mode="same")
    return np.where(finite, sums / np.maximum(counts, 1.0), np.nan)


def _mark_switches(axes: Axes, seeds: Sequence[Seed]) -> None:
    """Draw a line where the branches begin, and leave room between the steps below."""
    axes.locator_params(axis="x", nbins=5)
    ink = LIGHT["ink"]
    steps = {seed.switch_step for seed in seeds if seed.switch_step is not None}
    for step in steps:
        axes.axvline(step, color=ink, linewidth=0.9, linestyle="--", alpha=0.6)


def _label_end(axes: Axes, x: float, y: float, text: str) -> None:
    """Write at the right end of a curve."""
    axes.annotate(
        text,
        (x, y),
        xytext=(4, 0),
        textcoords="offset points",
        verticalalignment="center",
        annotation_clip=False,
    )


def log_axis(axis: Axis) -> None:
    """Make an axis with its data logarithmic, with ticks that read as plain numbers.

    Without a positive value there is nothing to take a logarithm of.
    """
    if not math.isfinite(axis.get_minpos()):
        return
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    lowest, highest = axis.get_view_interval()
    steps = (1, 2, 3, 5) if highest / lowest < 30 else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
