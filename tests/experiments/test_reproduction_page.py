"""The report of a reproduction, made from synthetic runs, without a browser."""

import math
import re
from html.parser import HTMLParser

import pytest

from experiments.reproduction import words
from experiments.reproduction.experiment import Claim, Criterion
from experiments.reproduction.markdown import to_markdown
from experiments.reproduction.page import write_page
from tests.experiments.reproductions import (
    make_entry,
    make_experiment,
    make_other_entry,
    make_page,
)

CLAIM = Claim("P1-E1", "Fig. 1", "It holds")


def criterion(holds, values=(1.0,), **fields):
    return Criterion("P1-E1", "the bound", values, holds, **fields)


# Words.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "–"),
        ((0.5,), "0.5"),
        # Mean 2, deviation sqrt((1 + 0 + 1) / 2).
        ((1.0, 2.0, 3.0), "2 ± 1 (3 seeds)"),
        ((0.97, 0.98), "0.975 ± 0.0071 (2 seeds)"),
        ((math.nan, 1.0), "not a number (1 of 2 seeds)"),
        ((math.inf, 1.0), "infinite (1 of 2 seeds)"),
    ],
)
def test_values_are_mean_and_deviation(values, expected):
    assert words.value(criterion(None, values)) == expected


@pytest.mark.parametrize(
    ("criteria", "verdict", "said"),
    [
        ([criterion(True)], "reproduced", ""),
        ([criterion(True), criterion(None)], "reproduced", ""),
        (
            [criterion(True), criterion(False)],
            "partly",
            "1 of 2 criteria not met: the ",
        ),
        ([criterion(False)], "not reproduced", "the bound, but here 1."),
        ([criterion(None)], "reported", "no bound"),
        (
            [criterion(True), criterion(None, (), note="It diverged.")],
            "no verdict",
            "Not measured: the bound (It diverged).",
        ),
        ([], "no verdict", "Nothing was measured (status: interrupted)."),
        ([Criterion("P1-E2", "another's", (1.0,), True)], "no verdict", "Nothing was"),
    ],
)
def test_verdicts_and_what_is_said_of_them(criteria, verdict, said):
    assert words.verdict_on(CLAIM, criteria) == verdict
    reason = words.shortfall(CLAIM, criteria, "interrupted")
    assert said in reason
    assert bool(said) == bool(reason)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.25, "1.25 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (4321, "1 h 12 min")],
)
def test_durations(seconds, expected):
    assert words.duration(seconds) == expected


# The page.


class Reader(HTMLParser):
    """The text of a page outside of scripts and styles, its ids, links and tags."""

    def __init__(self, text):
        super().__init__()
        self.parts, self.ids, self.links, self.tags, self.open = [], [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        if tag in ("script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.parts.append(data)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    files = [folder / "figures" / "loss.png", folder / "figures" / "loss.pdf"]
    entries = [make_entry(files=files), make_other_entry()]
    return write_page(folder / "index.html", make_page(entries)).read_text("utf-8")


@pytest.fixture(scope="module")
def read(html):
    return Reader(html)


def test_the_page_says_at_once_what_was_not_reproduced(read):
    top = read.text[: read.text.index("Verdicts")]
    assert (
        "At the scale quick . Of 6 claims: 1 reproduced, 1 partly, 1 not reproduced, "
        "2 no verdict, 1 reported." in top
    )
    assert "P1-E1 " not in top
    assert "P1-E2 : partly . 1 of 2 criteria not met: EMA crosses before step" in top
    assert "P1-E9 : not reproduced . 1 of 1 criteria not met" in top
    assert "P1-E6 : no verdict . Not measured: GD: loss <= 0.75 (the run" in top
    assert "P1-E10 : no verdict . Nothing was measured (status: diverged)." in top


def test_the_page_has_numbers_changes_and_the_way_to_run_it(read):
    for text in (
        "1.06 ± 0.01 (3 seeds) yes",
        "9100 no",
        "– not measured the run diverged",
        "12 ± 1.4 (2 seeds) no bound",
        "field full scale here steps 20000 2000 task.model mlp <cnn>",
        "Nothing: this is the full scale.",
        "--config=configs/loss.py --workdir=<x>",
        "Status: finished in 1 h 12 min, on 2 CPU cores.",
        "Status: diverged, on 2 CPU cores.",
        'modes ["plain", "dom"]',
        "versions jax 0.10.2 & <others>",
    ):
        assert text in read.text


def test_the_page_escapes_everything(html, read):
    assert {"switch", "others", "happen", "soon", "x", "cnn", "mlp"}.isdisjoint(
        read.tags
    )
    assert "<script>alert(1)</script>" in read.text
    assert "<script>alert" not in html


def test_links_of_the_page_lead_to_its_sections_and_files(read):
    assert len(set(read.ids)) == len(read.ids)
    sections = {link for link in read.links if link.startswith("#")}
    assert sections == {"#loss", "#edge"}
    assert {"loss", "edge"} < set(read.ids)
    assert set(read.links) - sections == {"figures/loss.png", "figures/loss.pdf"}


def test_the_page_holds_plotly_once_and_asks_for_nothing(html):
    assert html.count("* plotly.js v") == 1
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|img|link|iframe)[^>]+(src|href)=", html)
    # plotly.js, and little beside it.
    assert len(html) < 6_000_000


def test_pages_that_would_mislead_are_refused(tmp_path):
    strange = make_entry(criteria=[Criterion("P1-E7", "", (), None)])
    with pytest.raises(ValueError, match="'P1-E7', but expected one of: P1-E1, P1-E2"):
        write_page(tmp_path / "index.html", make_page([strange]))
    twice = make_entry(experiment=make_experiment("again"))
    with pytest.raises(ValueError, match="claims of one name: P1-E1, P1-E2"):
        write_page(tmp_path / "index.html", make_page([make_entry(), twice]))
    assert not list(tmp_path.iterdir())


# Markdown.


def test_markdown_has_the_same_verdicts_and_numbers():
    text = to_markdown(make_page(), {"loss": "../figures/loss.png"})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert (
        "| [P1-E2](#loss) | The gradient aligns with the dominant space | Fig. 3 "
        "| **partly** | 1 h 12 min | 2 CPU cores |" in rows
    )
    assert (
        r"| P1-E1 | Dom: L\_end / L\_sw \>= 0.95 | 1.06 ± 0.01 (3 seeds) | yes |  |"
        in rows
    )
    assert "| `steps` | `20000` | `2000` |" in rows
    assert text.count("](../figures/loss.png)") == text.count("![") == 1
    assert "2 no verdict, 1 reported." in text
    # Each table has as many cells in all rows.
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert (
            len({len(re.findall(r"(?<!\\)\|", row)) for row in table.split("\n")[:-1]})
            == 1
        )


def test_markdown_escapes_text():
    claims = (Claim("P1-E1", "a|b", "*x* <i> [l](u) `c`\n# no"),)
    entry = make_entry(experiment=make_experiment("loss", claims), criteria=())
    text = to_markdown(make_page([entry]), {})
    assert r"| \*x\* \<i\> \[l\](u) \`c\` # no | a\|b |" in text


def test_markdown_knows_its_experiments():
    with pytest.raises(ValueError, match=r"unknown experiments: los; .*: loss, edge"):
        to_markdown(make_page(), {"los": "x.png"})
