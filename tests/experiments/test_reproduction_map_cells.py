"""The cells of heat maps: where they are, their colours and their signs."""

import numpy as np
import pytest

from experiments.reproduction import scales
from experiments.reproduction.cells import MAX_SIDE, MOST_SIGNS, cells, levels_within
from experiments.reproduction.interactive import figure_html
from experiments.reproduction.plots import Axis, Curve, Level, Map, Mark
from experiments.reproduction.shades import colors

ROWS, COLUMNS = Axis("y", (1, 2)), Axis("x", (1, 2, 3))
SYMLOG = Axis("λ", (-3.0, -0.1, 0.0, 0.005, 0.5, 10.0), "symlog", 0.01)


def map_of(z=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), x=COLUMNS, y=ROWS, **fields):
    return Map("title", x, y, z, "number", **fields)


# Axes.


def test_cells_meet_half_way_as_they_are_drawn():
    np.testing.assert_allclose(scales.edges(Axis("", (1, 2, 4))), [0.5, 1.5, 3, 5])
    edges = scales.edges(Axis("", (0.1, 1.0, 100.0), "log"))
    np.testing.assert_allclose(edges, [10**-1.5, 10**-0.5, 10.0, 1000.0])
    np.testing.assert_allclose(scales.edges(Axis("", ("a", "b"))), [-0.5, 0.5, 1.5])
    np.testing.assert_allclose(scales.edges(Axis("", (3.0,))), [2.5, 3.5])


def test_an_axis_through_zero_is_linear_inside_and_logarithmic_beyond():
    edges = scales.edges(SYMLOG)
    assert np.all(np.diff(edges) > 0)
    # Both neighbours below -0.01, or both within: their geometric mean, or their mean.
    np.testing.assert_allclose(edges[1], -np.sqrt(3.0 * 0.1))
    np.testing.assert_allclose(edges[3], 0.0025)
    np.testing.assert_allclose(edges[5], np.sqrt(0.5 * 10))
    # One decade is as long anywhere beyond, on either side.
    drawn = scales.to_drawn(SYMLOG, [-1.0, -0.1, 0.1, 1.0, 10.0])
    np.testing.assert_allclose(np.diff(drawn)[[0, 2, 3]], np.diff(drawn)[0])
    values = np.array([-70.0, -0.01, -1e-5, 0.0, 0.003, 0.01, 8.0])
    np.testing.assert_allclose(
        scales.to_values(SYMLOG, scales.to_drawn(SYMLOG, values)), values
    )
    ticks = {tick.at: tick.text for tick in scales.ticks(SYMLOG)}
    assert {-1.0: "-1", 0.0: "0", 1.0: "1"}.items() <= ticks.items()
    assert [float(text) for text in ticks.values()] == pytest.approx(list(ticks))


@pytest.mark.parametrize(
    ("values", "scale", "texts"),
    [
        ((0.3, 0.94868, 3.0, 9.4868), "log", ["0.3", "0.949", "3", "9.49"]),
        ((128, 1024, 8192), "log", ["128", "1024", "8192"]),
        ((5.0,), "linear", ["5"]),
        ((0.3, 0.94868, 3.0, 9.4868), "linear", None),  # too near to each other
        (range(8), "linear", None),  # too many
        (("a", "b"), "linear", ["a", "b"]),
        ([f"{i}" for i in range(60)], "linear", [f"{i}" for i in range(0, 60, 3)]),
    ],
)
def test_few_values_and_names_are_written_at_their_cells(values, scale, texts):
    axis = Axis("x", values, scale)
    ticks = scales.ticks(axis)
    if texts is None:
        assert ticks is None
    else:
        assert [tick.text for tick in ticks] == texts
        places = dict(zip(map(str, values), scales.middles(axis), strict=True))
        for tick, value in zip(ticks, values[:: -(-len(values) // 24)], strict=True):
            assert tick.at == places[str(value)]


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (Axis("x", (1, 2, 3), "loglog"), "'loglog', but expected one of: linear, log"),
        (Axis("x", ()), "no values"),
        (Axis("x", (1, 3, 2)), "not ascending"),
        (Axis("x", (1, 2, np.inf)), "not finite"),
        (Axis("x", (0, 1, 2), "log"), "has the value 0"),
        (Axis("x", (0, 1, 2), "symlog"), "linear_within = 0"),
        (Axis("x", (0, 1, 2), "log", 0.1), "the value 0"),
        (Axis("x", ("a", "b", "c"), "log"), "has names"),
    ],
)
def test_axes_that_cannot_be_drawn(axis, message):
    with pytest.raises(ValueError, match=message):
        cells(map_of(x=axis))


# Colours.


def lightness(color):
    """CIE lightness without its offsets: the cube root of the relative luminance."""
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return np.cbrt(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("center", [None, 3.0])
def test_without_colours_larger_numbers_are_lighter(center):
    shades = [lightness(color) for color in colors(map_of(center=center), 33)]
    assert np.all(np.diff(shades) > 0)
    assert shades[-1] - shades[0] > 0.5


def test_diverging_colours_part_at_the_center():
    found = colors(map_of(center=3.0), 33)
    red, green, blue = (
        np.array([int(color[i : i + 2], 16) for color in found]) for i in (1, 3, 5)
    )
    assert red[16] == green[16] == blue[16]
    assert np.all(blue[:16] > red[:16])
    assert np.all(red[17:] > blue[17:])


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({}, (1, 6)),
        ({"z_log": True}, (1, 6)),
        ({"limits": (0, 10)}, (0, 10)),
        ({"center": 2.0}, (-2, 6)),
        ({"center": 1.0, "limits": (0.5, 1.25)}, (0.5, 1.5)),
        ({"center": 2.0, "z_log": True}, (2 / 3, 6)),
        ({"z": np.full((2, 3), 7.0)}, (6.3, 7.7)),
        ({"z": np.full((2, 3), np.nan)}, (0, 1)),
    ],
)
def test_the_ends_of_the_colours(fields, ends):
    shown = map_of(**fields)
    shades = cells(shown).shades
    found = np.array([shades.low, shades.high])
    np.testing.assert_allclose(10**found if shown.z_log else found, ends)


@pytest.mark.parametrize(
    ("limits", "center", "z_log", "texts"),
    [
        ((0, 10), None, False, ["0", "2", "4", "6", "8", "10"]),
        ((1e-4, 1e4), None, True, ["0.0001", "0.01", "1", "100", "1e+04"]),
        ((1.5, 5), None, True, ["≤ 1.5", "2", "3", "≥ 5"]),
        ((0, 4), 2.1, False, ["0", "1", "2.1", "3", "≥ 4.2"]),
        ((1, 30), 5.0, True, ["1", "2", "5", "10", "20"]),
    ],
)
def test_the_colour_bar_has_round_numbers_its_center_and_what_is_beyond(
    limits, center, z_log, texts
):
    shades = cells(map_of(limits=limits, center=center, z_log=z_log)).shades
    assert [tick.text for tick in shades.ticks] == texts
    for tick in shades.ticks:
        number = float(tick.text.strip("≤≥ "))
        assert (np.log10(number) if z_log else number) == pytest.approx(tick.at)


# Cells and signs.


def test_empty_cells_bear_a_sign_and_unexplained_ones_are_counted():
    z = np.array([[1.0, np.inf, np.inf], [-2.0, 0.0, np.nan]])
    diverged = np.array([[0, 1, 0], [1, 0, 0]])
    drawn = cells(map_of(z, marks=[Mark("diverged", diverged)], z_log=True))
    expected = [[0.0, np.nan, np.nan], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(drawn.shades.cells, expected)
    assert drawn.left_out == 2  # without the two that bear the mark
    cross, dot = drawn.signs
    assert (cross.kind, cross.name, dot.kind) == ("cross", "diverged", "dot")
    assert set(zip(cross.x, cross.y, strict=True)) == {(2, 1), (1, 2)}
    assert set(zip(dot.x, dot.y, strict=True)) == {(3, 1), (2, 2), (3, 2)}
    assert drawn.said[0] == ["1", "diverged", "no value"]
    # With limits, numbers without a logarithm are below the lower one.
    drawn = cells(map_of(z, z_log=True, limits=(0.1, 1)))
    np.testing.assert_array_equal(np.isnan(drawn.shades.cells), ~np.isfinite(z))
    assert np.all(drawn.shades.cells[1, :2] < -1)
    assert drawn.left_out == 2


def test_many_cells_are_joined_and_nothing_that_stands_out_is_lost():
    z, marked = np.zeros((1000, 31)), np.zeros((1000, 31), bool)
    z[777, 5], marked[[50, 51], 30] = 3.0, True
    x, y = Axis("x", range(31)), Axis("y", np.geomspace(1, 1e6, 1000), "log")
    drawn = cells(map_of(z, x, y, marks=[Mark("m", marked)]))
    height = -(-1000 // MAX_SIDE)
    assert drawn.joined
    assert drawn.shades.cells.shape == (-(-1000 // height), 31)
    assert np.argwhere(drawn.shades.cells == 3.0).tolist() == [[777 // height, 5]]
    assert drawn.said[50 // height][30] == "0, m"
    np.testing.assert_allclose(drawn.y.edges[[0, -1]], scales.edges(y)[[0, -1]])
    for i in range(3):
        assert float(drawn.y.names[i]) == pytest.approx(
            np.sqrt(drawn.y.edges[i] * drawn.y.edges[i + 1]), rel=1e-5
        )


def test_one_sign_stands_for_several_where_there_are_many_cells():
    side = 3 * MOST_SIGNS
    marked = np.zeros((side, side), bool)
    marked[:60, :60] = marked[100, 7] = True
    axis = Axis("", range(side))
    drawn = cells(map_of(np.ones((side, side)), axis, axis, marks=[Mark("m", marked)]))
    (sign,) = drawn.signs
    assert len(sign.x) == 20**2 + 1
    assert (7, 100) in set(zip(sign.x, sign.y, strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"z": np.ones((3, 2))},
            r"\(3, 2\), but expected \(rows, columns\) = \(2, 3\)",
        ),
        (
            {"marks": [Mark("m", [1, 2])]},
            r"'m' of the map 'title' has the shape \(2,\)",
        ),
        ({"marks": [Mark("m", np.ones((2, 3)))] * 2}, "marks m, m, but expected"),
        ({"marks": [Mark("no value", np.ones((2, 3)))]}, "other than 'no value'"),
        ({"marks": [Mark(n, np.ones((2, 3))) for n in "abcd"]}, "at most 3"),
        ({"limits": (2, 1)}, "lower limit first"),
        ({"limits": (0, 1), "z_log": True}, "positive"),
        ({"center": np.nan}, "finite"),
        ({"curves": [Curve(n, [1], [1]) for n in "abcde"]}, "5 names.*at most 4"),
    ],
)
def test_maps_that_cannot_be_drawn(fields, message):
    with pytest.raises(ValueError, match=message):
        figure_html(map_of(**fields), "a-figure")


def test_levels_beyond_the_cells_are_left_out():
    levels = [Level("in", 2.4), Level("above", 2.6), Level("right", 9, vertical=True)]
    assert levels_within(map_of(levels=levels)) == levels[:1]
