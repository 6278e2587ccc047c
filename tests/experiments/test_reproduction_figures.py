"""The figures of a reproduction's report: which points, which colours, which files."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from experiments.figures import COLORS
from experiments.reproduction.drawing import MAX_POINTS, looks, points, thin
from experiments.reproduction.interactive import figure_html
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.reproduction.static import MAX_PNG_BYTES, write_static
from tests.experiments.reproductions import (
    decoded,
    make_loss_plot,
    make_sharpness_plot,
)


def plot_of(*curves, **fields):
    return Plot("title", "x", "y", curves, **fields)


def drawn_by(plot):
    """The figure that a page gives to plotly, and its elements' text."""
    html = figure_html(plot, "a-figure")
    text = re.search(r'<script type="application/json">(.*?)</script>', html).group(1)
    return json.loads(text)


# Thinning.


@pytest.mark.parametrize("growing", [False, True])
def test_thinning_keeps_extremes_ends_and_order(growing):
    x = np.arange(1.0, 50_001.0)
    y = np.sin(x / 3000)
    y[[7, 31_415]] = 5.0, -7.0
    kept = thin(x, y, growing=growing)
    assert 300 < len(kept) <= MAX_POINTS
    assert {0, 7, 31_415, 49_999} <= set(kept)
    assert np.all(np.diff(kept) > 0)
    # No point strays from the line through the points kept, spikes apart, by more
    # than the curve moves in a bin: 50,000 / 300 equal ones, at a slope of 1 / 3000.
    if not growing:
        line = np.interp(x, x[kept], y[kept])
        near = np.abs(np.subtract.outer(x, x[[7, 31_415]])).min(axis=1) > 200
        assert np.abs(line - y)[near].max() < 168 / 3000


def test_thinning_for_a_logarithmic_axis_keeps_the_beginning():
    x = np.arange(1.0, 50_001.0)
    y = np.zeros_like(x)
    assert np.sum(thin(x, y, growing=True) < 100) > 60
    assert np.sum(thin(x, y) < 100) < 5


def test_thinning_keeps_gaps_and_the_extent_of_a_path():
    angle = np.linspace(0, 40 * math.pi, 20_000)
    x, y = angle * np.cos(angle), angle * np.sin(angle)
    y[1000:1400] = np.nan
    kept = thin(x, y)
    assert len(kept) <= MAX_POINTS
    assert np.any((kept >= 1000) & (kept < 1400))
    shown = np.isfinite(y)
    for values in (x, y):
        assert values[kept][shown[kept]].max() == values[shown].max()
        assert values[kept][shown[kept]].min() == values[shown].min()


def test_a_short_curve_is_drawn_as_it_is():
    np.testing.assert_array_equal(thin(np.arange(1500), np.ones(1500)), np.arange(1500))


def test_what_cannot_be_drawn_is_a_gap_and_is_counted():
    curve = Curve("a", [0, 1, 2, 3, 4], [1.0, -1.0, math.inf, math.nan, 2.0])
    linear, logarithmic = plot_of(curve), plot_of(curve, log_x=True, log_y=True)
    np.testing.assert_array_equal(points(curve, linear).y, [1, -1, np.nan, np.nan, 2])
    assert points(curve, linear).left_out == 1
    np.testing.assert_array_equal(points(curve, logarithmic).y, [np.nan] * 4 + [2])
    # 0 on the axis of x, -1 and the infinite one; the gap is none.
    assert points(curve, logarithmic).left_out == 3


# Colours.


def test_names_share_colours_and_free_ones_are_distinct():
    free = [Curve(f"free {index}", [0], [0]) for index in range(7)]
    found = looks(plot_of(Curve("Dom", [0], [0], "dom"), *free, *free))
    assert found["Dom"].color == "dom"
    styles = {(look.color, look.dashed) for look in found.values()}
    assert len(styles) == 8
    assert all(look.color in COLORS for look in found.values())
    assert found["free 0"].width < found["Dom"].width


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ([Curve("a", [0], [0], "domm")], "'domm'.*plain, dom, bulk"),
        ([Curve("a", [0], [0], "dom"), Curve("a", [0], [0])], "'dom' and ''"),
        ([Curve("a", [0, 1], [0])], r"shape \(2,\) and y of shape \(1,\)"),
        ([Curve("a", [0], [0], errors=[1, 2])], r"errors of shape \(2,\)"),
    ],
)
def test_curves_that_cannot_be_drawn(curves, message):
    with pytest.raises(ValueError, match=message):
        figure_html(plot_of(*curves), "a-figure")


# Figures.


def test_a_figure_has_each_curve_once_in_the_legend():
    figure = drawn_by(make_loss_plot(seeds=2))
    names = [trace["name"] for trace in figure["data"]]
    groups = [trace["legendgroup"] for trace in figure["data"]]
    listed = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
    assert names == groups == [name for name in listed for _ in range(2)]
    assert listed == ["warm-up", "SGD", "Dom-SGD", "Bulk-SGD"]
    assert figure["data"][4]["line"]["color"] == "var(--dom)"
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_error_bars_in_both_kinds_of_figures(tmp_path):
    steps = list(range(3000))
    bars = plot_of(Curve("a", steps, steps, errors=[0.5] * 3000))
    (trace,) = decoded(drawn_by(bars))["data"]
    lengths = trace["error_y"]["array"]
    assert len(lengths) == len(trace["x"]) <= MAX_POINTS
    assert set(lengths) == {0.5}
    (trace,) = drawn_by(plot_of(Curve("a", [0], [0])))["data"]
    assert "array" not in trace.get("error_y", {})
    with_bars, without = (
        write_static([plot], tmp_path, name)[0].read_bytes()
        for name, plot in (
            ("bars", plot_of(Curve("a", [0, 1], [0, 1], errors=[0.5, 0.5]))),
            ("none", plot_of(Curve("a", [0, 1], [0, 1]))),
        )
    )
    assert with_bars != without


def test_levels_are_placed_on_logarithmic_axes():
    levels = [Level("edge", 100.0), Level("start", 1.0, vertical=True), Level("", -1.0)]
    layout = drawn_by(plot_of(Curve("a", [1], [1]), levels=levels, log_y=True))[
        "layout"
    ]
    # What is not positive is nowhere on the axis.
    assert len(layout["shapes"]) == len(layout["annotations"]) == 2
    assert {shape["y0"] for shape in layout["shapes"]} == {100.0, 0}
    assert {name["text"]: name.get("y") for name in layout["annotations"]} == {
        "edge": 2.0,
        "start": 1,
    }


def test_text_in_a_figure_is_escaped_twice():
    plot = plot_of(Curve("</script><b>&$x$", [0], [0]))._replace(title='"><i>')
    html = figure_html(plot, "a-figure")
    assert "<b>" not in html
    assert "<i>" not in html
    assert html.count("</script>") == 1
    # For plotly, which reads some HTML in names and formulas between dollars.
    assert (
        drawn_by(plot)["data"][0]["name"] == "&lt;/script&gt;&lt;b&gt;&amp;&#36;x&#36;"
    )


def test_a_figure_of_long_curves_stays_small():
    plot = make_loss_plot(num_points=200_000, seeds=1)
    assert len(figure_html(plot, "a-figure")) < 100_000
    traces = decoded(drawn_by(plot))["data"]
    assert 100 < max(len(trace["y"]) for trace in traces) <= MAX_POINTS


def test_static_files_are_small_and_the_same_each_time(tmp_path):
    plots = [make_loss_plot(), make_sharpness_plot(), plot_of(), make_sharpness_plot()]
    png, pdf = write_static(plots, tmp_path, "four")
    assert (png.name, pdf.name) == ("four.png", "four.pdf")
    assert png.stat().st_size <= MAX_PNG_BYTES
    with Image.open(png) as image:
        width, height = image.size
    assert 1.1 < width / height < 2.5  # three beside each other, one below
    assert pdf.read_bytes().startswith(b"%PDF")
    first = png.read_bytes(), pdf.read_bytes()
    write_static(plots, tmp_path, "four")
    assert (png.read_bytes(), pdf.read_bytes()) == first


def test_static_files_draw_every_curve_in_its_colour(tmp_path):
    png, _ = write_static([make_loss_plot(seeds=1)], tmp_path, "one")
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for name in ("plain", "dom", "bulk", "warmup"):
        color = [int(COLORS[name][0][i : i + 2], 16) for i in (1, 3, 5)]
        assert np.sum(np.abs(pixels - color).max(axis=1) < 16) > 100, name


def test_no_plots_are_no_figure(tmp_path):
    with pytest.raises(ValueError, match="no plots for 'none'"):
        write_static([], tmp_path, "none")
