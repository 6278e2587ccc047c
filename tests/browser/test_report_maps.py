"""Heat maps in headless Chromium. Run by `make test-report`."""

import itertools
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from experiments.reproduction.page import write_page
from tests.experiments.reproductions import (
    make_density,
    make_entry,
    make_map,
    make_page,
)

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    entry = make_entry(plots=[make_map(), make_density()])
    path = tmp_path_factory.mktemp("maps") / "index.html"
    return write_page(path, make_page([entry])).as_uri()


def rectangle(box, what):
    """The left, right, top and bottom of an element, in pixels."""
    found = box.locator(what).first.bounding_box()
    x, y = found["x"], found["y"]
    return x, x + found["width"], y, y + found["height"]


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_map_has_cells_signs_curves_and_a_colour_bar(
    open_address, address, screen, scheme
):
    page = open_address(address, screen, scheme)
    first, second = page.locator(".plot").all()
    for box in (first, second):
        expect(box.locator(".heatmaplayer image")).to_have_count(1)
        # A named bar above the axes, and no text of it on another one.
        _, _, top, bottom = rectangle(box, ".gtitle")
        bar = rectangle(box, ".cbfills")
        axes = rectangle(box, ".nsewdrag")
        assert top < bottom <= bar[2] < bar[3] < axes[2]
        assert axes[1] - axes[0] > 0.6 * min(screen["width"], 500)
        ticks = [tick.bounding_box() for tick in box.locator(".cbaxis text").all()]
        for left, right in itertools.pairwise(ticks):
            assert left["x"] + left["width"] < right["x"]
        x_title = rectangle(box, ".xtitle")
        assert x_title[2] > max(
            tick.bounding_box()["y"] for tick in box.locator(".xtick text").all()
        )
    texts = first.locator(".cbaxis text").all_text_contents()
    assert texts == ["≤ 0.03", "0.1", "0.2", "0.5", "1"]
    expect(first.locator(".gtitle")).to_have_text("L_end / L_sw")
    signs = first.locator(".scatterlayer .trace").nth(0).locator(".points path")
    expect(signs).to_have_count(int(np.isinf(make_map().z).sum()))
    assert first.locator(".legendtext").all_text_contents() == [
        "<i>diverged</i>",
        "no value",
        "edge",
        "runs",
    ]
    assert {"-10", "0", "10"} <= set(second.locator(".ytick text").all_text_contents())
    assert page.evaluate("document.scrollingElement.scrollWidth") <= screen["width"]


def test_a_map_says_its_numbers_and_zooms(open_address, address):
    page = open_address(address, DESKTOP)
    box = page.locator(".plot").first
    box.scroll_into_view_if_needed()
    left, right, top, bottom = rectangle(box, ".nsewdrag")
    # The third of nine columns, the second of seven rows from below.
    page.mouse.move(left + (right - left) * 2.3 / 9, bottom - (bottom - top) * 1.7 / 7)
    label = box.locator(".hoverlayer .hovertext")
    label.wait_for()
    assert re.sub(r"\s+", " ", label.text_content()) == (
        "learning rate & $η$: 0.0316228momentum: 0.15L_end / L_sw: 0.04269"
    )
    ranges = "box => box.layout.xaxis.range"
    before = box.evaluate(ranges)
    page.mouse.down()
    page.mouse.move(left + (right - left) * 0.8, top + (bottom - top) * 0.3, steps=4)
    page.mouse.up()
    page.wait_for_function(
        "before => document.querySelector('.plot').layout.xaxis.range[0] > before",
        arg=before[0],
    )
    after = box.evaluate(ranges)
    assert after[1] - after[0] < 0.7 * (before[1] - before[0])
