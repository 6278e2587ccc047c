"""Heat maps in a reproduction's report: on the page and as files."""

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.figures import COLORS
from experiments.reproduction import scales
from experiments.reproduction.interactive import figure_html
from experiments.reproduction.page import write_page
from experiments.reproduction.plots import Axis, Curve, Map
from experiments.reproduction.shades import colors
from experiments.reproduction.static import MAX_PNG_BYTES, write_static
from experiments.reproduction.static_map import draw_map
from tests.experiments.reproductions import (
    decoded,
    make_density,
    make_entry,
    make_loss_plot,
    make_map,
    make_page,
)


def drawn_by(shown):
    """The figure that a page gives to plotly."""
    html = figure_html(shown, "a-figure")
    text = re.search(r'<script type="application/json">(.*?)</script>', html).group(1)
    return go.Figure(decoded(json.loads(text)))


@pytest.fixture(scope="module")
def phase_figure():
    return drawn_by(make_map())


# On the page.


def test_the_page_draws_each_cell_between_its_edges(phase_figure):
    shown, heatmap = make_map(), phase_figure.data[0]
    assert heatmap.type == "heatmap"
    assert heatmap.z.shape == (7, 9)
    np.testing.assert_allclose(
        heatmap.x[1:-1], np.sqrt(shown.x.values[1:]) * np.sqrt(shown.x.values[:-1])
    )
    np.testing.assert_allclose(heatmap.y, np.linspace(-0.075, 0.975, 8), atol=1e-12)
    finite = np.isfinite(shown.z)
    np.testing.assert_array_equal(np.isfinite(heatmap.z), finite)
    np.testing.assert_allclose(heatmap.z[finite], np.log10(shown.z[finite]), rtol=1e-6)
    assert (heatmap.zmin, heatmap.zmax) == (np.log10(0.03), 0)


def test_the_page_has_a_colour_bar_with_a_label(phase_figure):
    bar = phase_figure.data[0].colorbar
    assert phase_figure.layout.title.text == "L_end / L_sw"
    np.testing.assert_allclose(10 ** np.array(bar.tickvals), [0.03, 0.1, 0.2, 0.5, 1])
    assert list(bar.ticktext) == ["≤ 0.03", "0.1", "0.2", "0.5", "1"]


def test_a_cell_says_its_numbers_as_plain_text(phase_figure):
    heatmap = phase_figure.data[0]
    assert heatmap.hovertemplate == (
        "learning rate &amp; &#36;η&#36;: %{customdata[0]}<br>"
        "momentum: %{customdata[1]}<br>L_end / L_sw: %{customdata[2]}<extra></extra>"
    )
    said = np.array(heatmap.customdata)
    assert said.shape == (7, 9, 3)
    assert said[0, 1].tolist() == ["0.0177828", "0", "0.01778"]
    assert said[0, 0].tolist() == ["0.01", "0", "no value"]
    assert said[6, 8].tolist() == ["1", "0.9", "&lt;i&gt;diverged&lt;/i&gt;"]


def test_the_page_draws_signs_and_curves_over_the_cells(phase_figure):
    shown = make_map()
    signs = {trace.name: trace for trace in phase_figure.data[1:3]}
    crosses, dots = signs["&lt;i&gt;diverged&lt;/i&gt;"], signs["no value"]
    assert (crosses.marker.symbol, dots.marker.symbol) == ("x", "circle")
    assert len(crosses.x) == np.isinf(shown.z).sum()
    np.testing.assert_allclose([dots.x[0], dots.y[0]], [0.01, 0], atol=1e-12)
    # A curve's rim, and the curve; one of each name in the legend.
    curves = phase_figure.data[3:]
    assert [curve.name for curve in curves] == ["edge"] * 4 + ["runs"] * 2
    assert [bool(curve.showlegend) for curve in curves] == [False, True] + [
        False
    ] * 3 + [True]
    assert {curve.line.color for curve in curves[:4:2]} == {"var(--paper)"}
    assert {curve.line.color for curve in curves[1:4:2]} == {"var(--ink)"}
    assert curves[5].mode == "markers"
    np.testing.assert_allclose(curves[0].x, shown.x.values, rtol=1e-6)


def test_the_page_puts_levels_on_logarithmic_axes(phase_figure):
    layout = phase_figure.layout
    names = {name.text: (name.x, name.y) for name in layout.annotations}
    assert names == {"half": (1, 0.45), "rate of E1": (-1, 1)}
    # Each has a rim below its line.
    assert [shape.line.color for shape in layout.shapes] == ["var(--paper)"] * 2 + [
        "var(--ink)"
    ] * 2
    assert layout.xaxis.type == "log"
    np.testing.assert_allclose(layout.xaxis.range, [-2.125, 0.125])


def test_an_axis_through_zero_is_drawn_with_all_that_is_on_it():
    shown = make_density()
    figure = drawn_by(shown)
    edges = scales.edges(shown.y)[[0, -1]]

    def drawn(value):
        """Matplotlib's formula of the scale, written out."""
        inside = np.abs(value) <= 1e-3
        beyond = 1e-3 * (10 / 9 + np.log10(np.maximum(np.abs(value), 1e-9) / 1e-3))
        return np.where(inside, value * 10 / 9, np.sign(value) * beyond)

    axis = figure.layout.yaxis
    np.testing.assert_allclose(axis.range, drawn(edges))
    values = [float(text) for text in axis.ticktext]
    assert {-10, -1, 0, 1, 10} <= set(values)
    np.testing.assert_allclose(axis.tickvals, drawn(np.array(values)), atol=1e-12)
    np.testing.assert_allclose(figure.layout.shapes[0].y0, drawn(20.0))
    np.testing.assert_allclose(figure.layout.annotations[0].y, drawn(20.0))
    curve = figure.data[-1]
    np.testing.assert_allclose(curve.y, drawn(shown.curves[0].y), rtol=1e-6)
    # What is said of a point is its value.
    np.testing.assert_allclose(curve.customdata[:, 1], shown.curves[0].y, rtol=1e-6)
    assert max(figure.data[0].z.shape) <= 150


def test_rows_with_names_go_from_the_top_down():
    rows = Axis("", ("<a>", "b"))
    figure = drawn_by(Map("", Axis("", (1, 2)), rows, [[1, 2], [3, 4]], ""))
    assert tuple(figure.layout.yaxis.range) == (1.5, -0.5)
    assert tuple(figure.layout.yaxis.ticktext) == ("&lt;a&gt;", "b")
    axes = Figure().subplots()
    draw_map(axes, Map("", Axis("", (1, 2)), rows, [[1, 2], [3, 4]], ""))
    assert axes.get_ylim() == (1.5, -0.5)


def test_a_page_tells_what_of_a_map_is_not_drawn(tmp_path):
    unmarked = make_map()._replace(marks=())
    entry = make_entry(plots=[make_map(), unmarked, make_density(), make_loss_plot()])
    text = write_page(tmp_path / "index.html", make_page([entry])).read_text("utf-8")
    assert text.count('class="plot"') == 4
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert captions[0] == "Above the &lt;edge&gt;, runs diverge."
    number = np.isinf(unmarked.z).sum()
    assert captions[1].endswith(
        f"Not drawn, as infinite or not positive: {number} cells."
    )
    assert captions[2].startswith("Neighbouring cells are joined")
    label = "L_end / L_sw over learning rate &amp; $η$ and momentum"
    assert f'aria-label="Stability of &lt;heavy ball&gt;: {label}"' in text
    # plotly.js is most of it.
    assert len(text) < 6_500_000


# As files.


def test_files_of_maps_are_small_and_keep_their_colours(tmp_path):
    panels = [make_map(), make_density(), make_loss_plot(seeds=1)]
    png, pdf = write_static(panels, tmp_path, "maps")
    assert png.stat().st_size <= MAX_PNG_BYTES
    assert pdf.read_bytes().startswith(b"%PDF")
    with Image.open(png) as image:
        assert image.width > 1400  # not of the coarsest resolution
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    expected = {
        hue: 300 for hue in (colors(panels[0], 64)[0], colors(panels[0], 64)[-1])
    }
    expected |= {COLORS[name][0]: 100 for name in ("dom", "bulk", "ink")}
    for color, least in expected.items():
        channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.sum(np.abs(pixels - channels).max(axis=1) < 4) > least, color
    first = png.read_bytes(), pdf.read_bytes()
    write_static(panels, tmp_path, "maps")
    assert (png.read_bytes(), pdf.read_bytes()) == first


def test_a_file_has_a_colour_bar_signs_and_rims():
    figure = Figure()
    axes = figure.subplots()
    handles = draw_map(axes, make_map())
    assert list(handles) == ["<i>diverged</i>", "no value", "edge", "runs"]
    (bar,) = (other for other in figure.axes if other is not axes)
    assert bar.get_ylabel() == "L_end / L_sw"
    texts = [label.get_text() for label in bar.get_yticklabels()]
    assert texts == ["≤ 0.03", "0.1", "0.2", "0.5", "1"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    drawn = [line.get_color() for line in axes.get_lines()[2:6]]
    assert drawn == ["white", COLORS["ink"][0]] * 2
    axes = figure.subplots()
    draw_map(axes, make_density())
    assert axes.get_yscale() == "symlog"
    assert "0" in [label.get_text() for label in axes.get_yticklabels()]


def test_curves_over_a_map_differ_in_their_dashes():
    names = ("a", "b", "c", "d")
    curves = [Curve(name, [1, 2], [1, 2]) for name in names]
    shown = Map(
        "", Axis("", (1, 2)), Axis("", (1, 2)), np.ones((2, 2)), "", curves=curves
    )
    dashes = [trace.line.dash for trace in drawn_by(shown).data[2::2]]
    handles = draw_map(Figure().subplots(), shown)
    styles = [handles[name].get_linestyle() for name in names]
    assert len(set(dashes)) == len(set(styles)) == 4
