"""The report of a reproduction in headless Chromium. Run by `make test-report`."""

import os

import pytest
from playwright.sync_api import expect

from experiments.reproduction.page import write_page
from tests.experiments.reproductions import make_page

TRACE = ".scatterlayer .trace"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 800}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page's content and its address."""
    folder = tmp_path_factory.mktemp("report")
    page = make_page(folder=folder)
    return page, write_page(folder / "index.html", page).as_uri()


@pytest.fixture
def open_page(open_address, report):
    """Open the page on a screen, and wait until its figures are drawn."""
    _, address = report

    def open_on(screen, scheme="light"):
        page = open_address(address, screen, scheme)
        for box in boxes(page):
            expect(box.locator(TRACE).first).to_be_attached()
        return page

    return open_on


def drawn_paths(box):
    """What a figure drew of each trace: the lengths of its lines, its points."""
    return box.evaluate(
        """box => [...box.querySelectorAll(".scatterlayer .trace")].map(trace =>
          [...trace.querySelectorAll(".js-line")]
            .reduce((sum, line) => sum + line.getTotalLength(), 0)
          + trace.querySelectorAll(".points path").length)"""
    )


def boxes(page):
    return page.locator(".plot").all()


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_figure_draws_every_curve(open_page, report, screen):
    content, _ = report
    plots = [plot for entry in content.entries for plot in entry.plots]
    figures = boxes(open_page(screen))
    assert len(figures) == len(plots)
    for box, plot in zip(figures, plots, strict=True):
        drawn = drawn_paths(box)
        assert len(drawn) == len(plot.curves)
        assert min(drawn) >= 10
        assert box.locator(".shapelayer path").count() == len(plot.levels)
        names = {level.name for level in plot.levels}
        assert set(box.locator(".annotation text").all_text_contents()) == names
        named = box.locator(".legendtext").all_text_contents()
        assert named == list(dict.fromkeys(curve.name for curve in plot.curves))


def test_a_click_in_the_legend_hides_and_shows_the_curves_of_a_name(open_page):
    page = open_page(DESKTOP)
    box = boxes(page)[0]
    expect(box.locator(TRACE)).to_have_count(12)
    dom = box.locator(".legend .traces", has_text="Dom-SGD").locator(".legendtoggle")
    dom.click()
    expect(box.locator(TRACE)).to_have_count(9)
    hidden = page.evaluate(
        """document.querySelector(".plot").data
          .filter(trace => trace.visible === "legendonly").map(trace => trace.name)"""
    )
    assert hidden == ["Dom-SGD"] * 3
    # A second click within plotly's time would be a double one.
    page.wait_for_timeout(600)
    dom.click()
    expect(box.locator(TRACE)).to_have_count(12)


def test_hovering_names_the_curve_and_no_button_leads_away(open_page):
    page = open_page(DESKTOP)
    box = boxes(page)[1]
    box.scroll_into_view_if_needed()
    line = box.locator(".nsewdrag").bounding_box()
    page.mouse.move(line["x"] + line["width"] * 0.6, line["y"] + line["height"] * 0.06)
    label = box.locator(".hoverlayer .hovertext").first
    label.wait_for()
    assert label.text_content().startswith("χ₁₀")
    titles = [
        button.get_attribute("data-title")
        for button in box.locator(".modebar-btn").all()
    ]
    assert "Zoom" in titles
    assert not [title for title in titles if "lotly" in title or "loud" in title]


def test_nothing_is_wider_than_a_phone(open_page):
    page = open_page(PHONE)
    page.locator("details summary").first.click()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
    # Nor cut off: what is wider scrolls in a box of its own.
    wide = page.evaluate(
        """[...document.querySelectorAll("body *:not(script)")].filter(one =>
          one.getBoundingClientRect().right > 360.5
          && !one.closest(".scroll, .plot, pre")).map(one => one.outerHTML)"""
    )
    assert wide == []
    widths = [box.locator(".main-svg").first.bounding_box() for box in boxes(page)]
    assert max(width["width"] for width in widths) <= 340


def test_light_and_dark_draw_in_their_own_colours(open_page):
    page = open_page(DESKTOP, "dark")
    box = boxes(page)[0]
    look = """box => [
      getComputedStyle(document.body).backgroundColor,
      getComputedStyle(box.querySelector(".scatterlayer .js-line:last-of-type")).stroke,
      getComputedStyle(box.querySelector(".xtick text")).fill]"""
    dark = box.evaluate(look)
    assert dark[0] == "rgb(20, 23, 27)"
    assert dark[2] == "rgb(230, 232, 235)"
    # A hidden curve stays hidden when the reader changes the scheme.
    box.locator(".legendtoggle").first.click()
    expect(box.locator(TRACE)).to_have_count(9)
    page.emulate_media(color_scheme="light")
    tick = box.locator(".xtick text").first
    expect(tick).to_have_css("fill", "rgb(31, 35, 40)")
    light = box.evaluate(look)
    assert box.locator(TRACE).count() == 9
    assert light[0] == "rgb(255, 255, 255)"
    assert light[1] != dark[1]


def test_text_stays_text(open_page):
    page = open_page(DESKTOP)
    assert "Does SGD really <happen>" in page.locator("h1").inner_text()
    assert (
        "<script>alert(1)</script>" in page.locator("figcaption").all_inner_texts()[2]
    )
    legend = boxes(page)[2].locator(".legendtext").all_text_contents()
    assert legend[0] == "<b>CNN</b> & $x$"


def test_links_lead_to_sections_and_files(open_page, report):
    page = open_page(DESKTOP)
    _, address = report
    for link in page.locator("a").all():
        target = link.get_attribute("href")
        if target.startswith("#"):
            assert page.locator(target).count() == 1
        else:
            folder = address.removeprefix("file://").rsplit("/", 1)[0]
            assert os.path.getsize(f"{folder}/{target}") > 1000
