"""The report of synthetic runs whose numbers are known by hand."""

import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import figures, records, report, summary

CONFIG = {
    "title": "Does <it> work & how?",
    "steps": 400,
    "subspace": {"k": 2},
    "switch": {"threshold": 0.95, "decay": 0.9},
    "report_window": 100,
    "modes": ["plain", "dom", "bulk"],
    "optimizer": {"learning_rate": 0.1},
    "claims": {
        "plain": {"text": "SGD learns", "max_ratio": 0.6},
        "dom": {"text": "Dom-SGD <stalls>", "min_ratio": 0.95},
        "bulk": {"text": "Bulk-SGD learns as SGD does", "max_ratio": 0.6},
    },
}
SWITCH = 200
LOSS = {"warmup": 2.0, "plain": 1.0, "dom": 2.2, "bulk": 1.5}
"""The loss of each part in its last 100 steps; before, it is three times as large."""
FINISHED = {
    branch: {"status": "finished", "step": 400} for branch in ("plain", "dom", "bulk")
}


def make_line(branch, step, loss, **changes):
    return {
        "branch": branch,
        "step": step,
        "loss/full": loss,
        "loss/batch": loss,
        "accuracy/full": 1 - loss / 10,
        "alignment/gradient": 0.9,
        "alignment/batch_gradient": 0.8,
        "alignment/average": 0.5,
        "subspace/eigenvalues": [4.0, -2.0],
        "subspace/residuals": [0.004, 0.003],
        "subspace/next_eigenvalue": 1.0,
        "subspace/next_residual": 0.1,
        "subspace/error_bound": 0.01,
        "subspace/angle": 0.05,
        "subspace/steps_since_refresh": 0,
        "cost/matvecs": 40 + step,
        "cost/refreshes": 1 + step // 50,
        "cost/failed_refreshes": 0,
        "time/seconds": step / 4,
        **changes,
    }


def make_lines():
    """Log each 10 steps; the warm-up up to step 190, the branches from 200 to 400."""
    lines = []
    for branch, loss in LOSS.items():
        steps = range(0, 200, 10) if branch == "warmup" else range(200, 401, 10)
        last = steps[-1]
        for step in steps:
            # Within the window, the loss goes up and down around its mean.
            swing = 0.1 * (-1) ** (step // 10)
            value = loss + swing if step > last - 100 else 3 * loss
            lines.append(make_line(branch, step, value))
            if step % 100 == 0:
                spectrum = [4.0, 3.0, 2.0, -1.0 if step == 0 else 1.0]
                lines[-1]["spectrum/eigenvalues"] = spectrum
                lines[-1]["accuracy/test"] = 0.25
    return lines


def summarize(
    lines, config=CONFIG, branches=FINISHED, switch=SWITCH, status="finished"
):
    details = {"status": status, "switch_step": switch, "branches": branches}
    return summary.summarize(config, details, lines)


def make_run(
    folder,
    lines,
    status="finished",
    switch_step=SWITCH,
    branches=FINISHED,
    config=CONFIG,
):
    records.open_workdir(folder, config, ["main", "--config=<x>"])
    for line in lines:
        records.append_metrics(folder, line)
    records.write_status(folder, status, switch_step=switch_step, branches=branches)


def page_of(folder):
    return report.write_report(folder).read_text(encoding="utf-8")


def words(page):
    """The text of a page, tags and line breaks apart."""
    body = re.sub(r"<(style|svg)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


# The numbers.


def test_losses_are_means_over_the_window_and_ratios_to_the_switch():
    result = summarize(make_lines())
    assert result.loss_at_switch == pytest.approx(2.0)
    plain, dom, bulk = result.branches
    assert [plain.loss, dom.loss, bulk.loss] == pytest.approx([1.0, 2.2, 1.5])
    assert [plain.ratio, dom.ratio, bulk.ratio] == pytest.approx([0.5, 1.1, 0.75])
    assert [branch.step for branch in result.branches] == [400, 400, 400]
    assert plain.alignment == pytest.approx(0.9)
    assert plain.accuracy == pytest.approx(1 - 1.1 / 10)
    assert plain.test_accuracy == 0.25


def test_verdicts_compare_with_the_criteria():
    plain, dom, bulk = summarize(make_lines()).branches
    assert (plain.verdict, plain.criterion) == ("reproduced", "ratio ≤ 0.6")
    assert (dom.verdict, dom.criterion) == ("reproduced", "ratio ≥ 0.95")
    assert (bulk.verdict, bulk.criterion) == ("not reproduced", "ratio ≤ 0.6")


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ({"text": "no criterion"}, "reported"),
        ({"min_ratio": 0.7, "max_ratio": 0.8}, "reproduced"),
        ({"min_ratio": 0.8, "max_ratio": 0.9}, "not reproduced"),
        ({"max_difference_to_plain": 0.6}, "reproduced"),
        ({"max_difference_to_plain": 0.4}, "not reproduced"),
        ({"max_ratio": 0.8, "max_difference_to_plain": 0.4}, "not reproduced"),
    ],
)
def test_verdict_of_bulk(claim, verdict):
    config = {**CONFIG, "claims": {"bulk": claim}}
    plain, dom, bulk = summarize(make_lines(), config).branches
    assert bulk.verdict == verdict
    assert plain.verdict == dom.verdict == "reported"


def test_a_branch_that_diverged_reproduces_nothing():
    lines = make_lines()
    lines = [line for line in lines if line["branch"] != "dom" or line["step"] < 300]
    lines.append(make_line("dom", 300, math.nan))
    ended = {**FINISHED, "dom": {"status": "diverged", "step": 303}}
    dom = summarize(lines, branches=ended, status="diverged").branches[1]
    assert (dom.status, dom.step, dom.verdict) == ("diverged", 303, "not reproduced")
    assert math.isnan(dom.ratio)


def test_a_branch_that_has_not_ended_has_no_verdict():
    lines = [line for line in make_lines() if line["branch"] != "bulk"]
    ended = {"plain": FINISHED["plain"]}
    plain, dom, bulk = summarize(lines, branches=ended, status="running").branches
    assert (plain.status, plain.verdict) == ("finished", "reproduced")
    assert (dom.status, dom.verdict, dom.step) == ("running", "no verdict", 400)
    assert (bulk.status, bulk.verdict, bulk.step) == ("not started", "no verdict", None)


def test_branches_that_the_config_leaves_out_are_left_out():
    config = {**CONFIG, "modes": ["plain", "bulk"]}
    branches = summarize(make_lines(), config).branches
    assert [branch.branch for branch in branches] == ["plain", "bulk"]


def test_costs_are_those_of_each_part():
    cost = summarize(make_lines()).cost
    assert cost["warmup"] == summary.Cost(steps=190, matvecs=230, seconds=47.5)
    for branch in ("plain", "dom", "bulk"):
        assert cost[branch] == summary.Cost(steps=200, matvecs=200, seconds=50.0)


def test_certificate_counts_each_refresh_once():
    lines = [
        make_line("warmup", 0, 1.0, **{"cost/refreshes": 1}),
        make_line("warmup", 10, 1.0, **{"cost/refreshes": 1}),
        make_line(
            "warmup",
            20,
            1.0,
            **{"cost/refreshes": 2, "subspace/residuals": [0.1, 0.0]},
        ),
        make_line(
            "plain", 30, 1.0, **{"cost/refreshes": 3, "subspace/error_bound": math.inf}
        ),
        make_line(
            "dom", 30, 1.0, **{"cost/refreshes": 3, "subspace/error_bound": math.nan}
        ),
    ]
    certificate = summarize(lines).certificate
    assert certificate is not None
    assert certificate.num_refreshes == 4
    assert certificate.num_certified == 2
    assert certificate.worst_bound == math.inf
    assert certificate.worst_residual == pytest.approx(0.1 / 4.0)
    three = summarize([*lines[:1], *lines[2:4]]).certificate
    assert three is not None
    assert three.median_bound == 0.01


# The figures.


def drawn(draw):
    axes = Figure().add_subplot()
    draw(axes)
    return axes


def curve(axes, label):
    return next(line for line in axes.lines if line.get_label() == label)


def test_loss_panel_draws_every_branch_from_the_switch_on():
    axes = drawn(
        lambda axes: figures.draw_loss(axes, [figures.Seed(make_lines(), SWITCH)])
    )
    assert axes.get_yscale() == "log"
    warmup, dom = curve(axes, "warm-up"), curve(axes, "Dom")
    np.testing.assert_array_equal(warmup.get_xdata(), np.arange(0, 200, 10))
    np.testing.assert_array_equal(dom.get_xdata(), np.arange(200, 401, 10))
    assert dom.get_ydata()[0] == pytest.approx(6.6)
    assert dom.get_ydata()[-1] == pytest.approx(2.3)
    assert {line.get_color() for line in axes.lines[:4]} == {
        figures.COLORS[part][0] for part in LOSS
    }
    assert any(list(line.get_xdata()) == [SWITCH, SWITCH] for line in axes.lines)


def test_long_branches_are_drawn_as_their_running_mean():
    losses = [1.0 if step % 2 else 3.0 for step in range(1000)]
    lines = [make_line("plain", step, loss) for step, loss in enumerate(losses)]
    lines[500]["loss/full"] = math.nan
    smooth = curve(
        drawn(lambda axes: figures.draw_loss(axes, [figures.Seed(lines, None)])),
        "plain",
    ).get_ydata()
    assert math.isnan(smooth[500])
    np.testing.assert_allclose(np.delete(smooth, 500), 2.0, atol=0.25)
    np.testing.assert_allclose(smooth[20:480], 2.0, rtol=1e-12)


def test_alignment_panel_has_average_and_threshold():
    axes = drawn(
        lambda axes: figures.draw_alignment(
            axes, [figures.Seed(make_lines(), SWITCH)], 2, 0.95
        )
    )
    assert set(curve(axes, "moving average").get_ydata()) == {0.5}
    assert set(curve(axes, "threshold 0.95").get_ydata()) == {0.95}


def test_each_seed_has_its_curves_and_its_switch():
    earlier = [{**line, "step": line["step"] - 10} for line in make_lines()]
    seeds = [figures.Seed(make_lines(), SWITCH), figures.Seed(earlier, SWITCH - 10)]
    axes = drawn(lambda axes: figures.draw_loss(axes, seeds))
    color = figures.COLORS["dom"][0]
    of_dom = [line for line in axes.lines if line.get_color() == color]
    assert [line.get_xdata()[-1] for line in of_dom] == [400, 390]
    _, labels = axes.get_legend_handles_labels()
    assert labels == ["warm-up", "plain", "Dom", "Bulk"]
    marks = {tuple(line.get_xdata()) for line in axes.lines if line.get_ls() == "--"}
    assert marks == {(SWITCH, SWITCH), (SWITCH - 10, SWITCH - 10)}


def test_a_switch_at_a_step_has_neither_average_nor_threshold(tmp_path):
    axes = drawn(
        lambda axes: figures.draw_alignment(
            axes, [figures.Seed(make_lines(), SWITCH)], 2, None
        )
    )
    assert axes.get_legend() is None
    switch = {"threshold": 0.95, "step": 200}
    make_run(tmp_path, make_lines(), config={**CONFIG, "switch": switch})
    page = page_of(tmp_path)
    assert "at a step that the configuration names" in page
    assert "passes the threshold" not in page


def test_spectrum_panel_colours_the_first_k_and_leaves_out_what_is_not_positive():
    lines = make_lines()
    axes = drawn(
        lambda axes: figures.draw_spectrum(axes, figures.Seed(lines, SWITCH), 2)
    )
    colours = [line.get_color() for line in axes.lines[:4]]
    tail, top = figures.COLORS["tail"][0], figures.COLORS["plain"][0]
    assert colours == [tail, tail, top, top]
    steps = [0, 100, 200, 300, 400]
    assert list(axes.lines[0].get_xdata()) == steps
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [np.nan, 1, 1, 1, 1])
    np.testing.assert_array_equal(axes.lines[3].get_ydata(), [4, 4, 4, 4, 4])
    assert figures.num_not_positive(lines) == (1, 20)


def test_svg_is_well_formed_and_takes_its_colours_from_the_page():
    def draw(axes):
        figures.draw_loss(axes, [figures.Seed(make_lines(), SWITCH)])

    svg = figures.panel_svg(draw, 'a "title"')
    assert ElementTree.fromstring(svg).get("aria-label") == 'a "title"'
    assert svg == figures.panel_svg(draw, 'a "title"')
    for name in ("ink", "grid", "warmup", "plain", "dom", "bulk"):
        assert f"var(--{name})" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)


# The page.


class TagChecker(HTMLParser):
    """Checks that tags nest, and that ids are unique."""

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def assert_well_formed_and_self_contained(page):
    checker = TagChecker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    for request in ("<script", "<link", "<img", "@import", "src=", "url(http"):
        assert request not in page
    assert not re.search(r'href="(?!#)', page)


def test_report(tmp_path):
    make_run(tmp_path, make_lines())
    page = page_of(tmp_path)
    assert_well_formed_and_self_contained(page)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<title>Does &lt;it&gt; work &amp; how?</title>" in page
    assert page.count("<svg") == 3
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    text = words(page)
    assert "Dom-SGD &lt;stalls&gt;. Here it ends at 1.100 of the loss" in text
    assert "ratio, loss / L sw 0.500 1.100 0.750" in text
    assert "verdict reproduced reproduced not reproduced" in text
    assert "as a criterion ratio ≤ 0.6 ratio ≥ 0.95 ratio ≤ 0.6" in text
    assert "The switch came at step 200." in text
    assert "Not drawn, as not positive: 1 of 20." in text
    assert "error bound, worst 0.01" in text
    assert "largest relative residual 0.0015" in text
    assert "100.0% (19 of 19 in the log)" in text
    assert "optimizer.learning_rate 0.1" in text
    assert "--config=&lt;x&gt;" in text
    assert "provisional" not in text


def test_report_from_the_command_line(tmp_path, capsys):
    make_run(tmp_path, make_lines())
    report.main([str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert (tmp_path / "report.html").exists()


def test_report_of_a_run_that_never_switched(tmp_path):
    warmup = [line for line in make_lines() if line["branch"] == "warmup"]
    make_run(tmp_path, warmup, switch_step=None, branches={})
    page = page_of(tmp_path)
    assert_well_formed_and_self_contained(page)
    text = words(page)
    assert "The switch has not come: up to step 190" in text
    assert "did not pass 0.95" in text
    assert "there is no verdict" in text
    assert "Results" not in text


def test_report_of_a_run_that_diverged(tmp_path):
    lines = [*make_lines(), make_line("bulk", 410, math.nan)]
    ended = {**FINISHED, "bulk": {"status": "diverged", "step": 412}}
    make_run(tmp_path, lines, "diverged", branches=ended)
    page = page_of(tmp_path)
    assert_well_formed_and_self_contained(page)
    assert "Bulk diverged: at step 412" in words(page)
    assert "not reproduced (diverged)" in words(page)
    assert "not a number" in words(page)


@pytest.mark.parametrize("num_lines", [0, 1])
def test_report_of_a_run_that_has_just_begun(tmp_path, num_lines):
    make_run(tmp_path, make_lines()[:num_lines], "running", None, {})
    page = page_of(tmp_path)
    assert_well_formed_and_self_contained(page)
    assert "has not ended" in words(page)
