"""The table of a sweep, of runs whose numbers are known."""

import csv
import math

import numpy as np
import pytest

from experiments.summary import summarize_seeds
from experiments.sweep_summary import summarize_point
from experiments.sweep_table import rows, to_csv, to_markdown
from tests.experiments.runs import tiny_config

FINISHED = {"status": "finished", "step": 60}
DIVERGED = {"status": "diverged", "step": 33}


def starts(seeds):
    """The loss before the switch, of each seed."""
    return 2.0 + np.arange(seeds)


def ends(seeds):
    """The loss at the end of each branch, of each seed."""
    number = np.arange(seeds)
    return {
        "plain": 0.5 * starts(seeds) + 0.25,
        "bulk": 0.4 * starts(seeds) + 0.1 * number,
    }


def lines(seeds):
    for seed in range(seeds):
        points = [("warmup", 0, 9.0), ("warmup", 15, starts(seeds)[seed])]
        for branch, loss in ends(seeds).items():
            # Two lines in the window of 10 steps at the end.
            points += [(branch, 20, 7.0), (branch, 55, loss[seed] - 0.1)]
            points += [(branch, 60, loss[seed] + 0.1)]
        for branch, step, loss in points:
            yield {
                "branch": branch,
                "seed": seed,
                "step": step,
                "loss/full": loss,
                "alignment/gradient": 0.9,
                "accuracy/full": 0.5 + 0.1 * seed,
                "cost/matvecs": 10 * step + seed * (step > 20),
                "time/seconds": 0.25 * step,
            }


def point(name, *, status="finished", bulk=(FINISHED,), error=None):
    """The entry of a run with as many seeds as outcomes of its bulk branch."""
    config = tiny_config()
    config.seeds, config.modes = len(bulk), ("plain", "bulk")
    outcomes = {
        "warmup": [{"status": "finished", "step": 20}] * len(bulk),
        "plain": [FINISHED] * len(bulk),
        "bulk": list(bulk),
    }
    one = len(bulk) == 1
    told = {
        "status": status,
        "error": error,
        "switch_step": 20 if one else [20 + 2 * seed for seed in range(len(bulk))],
        "branches": {name: all_[0] if one else all_ for name, all_ in outcomes.items()},
        "seconds": 12.5,
    }
    summaries = summarize_seeds(config.to_dict(), told, list(lines(len(bulk))))
    entry = summarize_point(name, {"steps": 60, "subspace.k": 3}, told, summaries)
    return {**entry, "report": None}


def not_started(name):
    entry = summarize_point(name, {"steps": 60}, {"status": "not started"}, {})
    return {**entry, "report": None}


def page(*entries, varied=("steps", "subspace.k"), others=()):
    return to_markdown(
        {
            "title": "A title",
            "question": "Does it?",
            "varied": list(varied),
            "points": entries,
            "not_in_the_grid": list(others),
        }
    )


def test_numbers_are_means_and_spreads_over_seeds():
    entry = point("a", bulk=[FINISHED] * 3)
    assert entry["seeds"] == [0, 1, 2]
    assert entry["seconds"] == 12.5
    assert entry["switch_step"] == {"mean": 22.0, "spread": 2.0, "values": [20, 22, 24]}
    assert entry["warmup"]["loss"]["values"] == [2.0, 3.0, 4.0]
    assert entry["warmup"]["status"] == ["finished"] * 3
    for branch, loss in ends(3).items():
        told = entry["branches"][branch]
        for name, values in {
            "loss": loss,
            "ratio": loss / starts(3),
            "alignment": np.full(3, 0.9),
            "accuracy": np.array([0.5, 0.6, 0.7]),
            "matvecs": 400 + np.arange(3),
            "seconds": np.full(3, 10.0),
        }.items():
            assert told[name]["values"] == pytest.approx(values)
            assert told[name]["mean"] == pytest.approx(np.mean(values))
            spread = np.std(values, ddof=1)
            assert told[name]["spread"] == pytest.approx(spread, abs=1e-12)
        assert told["test_accuracy"]["mean"] is None
    # The claims of the defaults: a ratio of at most 0.6.
    ratios = ends(3)["plain"] / starts(3)
    words = ["reproduced" if ratio <= 0.6 else "not reproduced" for ratio in ratios]
    assert entry["branches"]["plain"]["verdict"] == words
    assert set(words) == {"reproduced", "not reproduced"}
    text = page(entry)
    ratio = ends(3)["bulk"] / starts(3)
    assert f"| {np.mean(ratio):.3f} ± {np.std(ratio, ddof=1):.3f} |" in text
    assert f"| reproduced {words.count('reproduced')} of 3 |" in text


def test_one_seed_has_no_spread():
    (plain, bulk) = rows([point("a")])
    assert plain["ratio_mean"] == pytest.approx((0.5 * 2 + 0.25) / 2)
    assert bulk["ratio_mean"] == pytest.approx(0.4)
    assert plain["ratio_spread"] is None
    assert plain["verdict"] == "not reproduced"
    assert "| 0.625 |" in page(point("a"))


def test_seeds_that_diverge_are_told_and_not_averaged():
    entry = point("a", status="diverged", bulk=[FINISHED, DIVERGED, FINISHED])
    told = entry["branches"]["bulk"]
    ratios = (ends(3)["bulk"] / starts(3))[[0, 2]]
    assert told["ratio"]["mean"] == pytest.approx(np.mean(ratios))
    assert told["ratio"]["spread"] == pytest.approx(np.std(ratios, ddof=1))
    assert len(told["ratio"]["values"]) == 3
    assert told["last_step"] == [60, 33, 60]
    assert told["verdict"][1] == "not reproduced"
    plain = entry["branches"]["plain"]["ratio"]["mean"]
    assert plain == pytest.approx(np.mean(ends(3)["plain"] / starts(3)))
    assert "| 2 finished, 1 diverged |" in page(entry)


def test_a_row_a_point_and_branch_and_one_of_a_point_that_has_not_ended():
    entries = [
        point("a"),
        point("b", status="diverged", bulk=[DIVERGED]),
        point("c", status="failed", error="Error: a | b\nc"),
        point("d", status="interrupted"),
    ]
    found = list(csv.DictReader(to_csv(entries).splitlines()))
    assert [(row["point"], row["branch"], row["status"]) for row in found] == [
        ("a", "plain", "finished"),
        ("a", "bulk", "finished"),
        ("b", "plain", "finished"),
        ("b", "bulk", "diverged at step 33"),
        ("c", "", "failed"),
        ("d", "", "interrupted"),
    ]
    assert found[0]["ratio_mean"] == str(rows(entries)[0]["ratio_mean"])
    for row in found[3:]:
        assert row["ratio_mean"] == row["loss_mean"] == ""
    text = page(*entries, others=["e"])
    assert text.startswith("# A title\n\nDoes it?\n\n2 of 4 points have ended.\n")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(found)
    assert len({line.count("|") for line in table}) == 1
    assert table[0].startswith("| steps | k | branch | status | switch | loss / L_sw |")
    assert table[2].startswith("| 60 | 3 | plain | finished | 20 | 0.625 |")
    assert "- `c`: Error: a | b c\n" in text
    assert text.endswith("not in the table:\n\n- `e`\n")


def test_a_point_leads_to_its_report():
    entry = {**point("k=3"), "report": "k=3/report.html"}
    assert "\n| [60](k%3D3/report.html) | 3 | plain |" in page(entry)


def test_a_sweep_that_has_not_begun_is_a_table_too():
    (row,) = rows([not_started("a")])
    assert (row["branch"], row["status"], row["loss_mean"]) == (
        None,
        "not started",
        None,
    )
    assert "0 of 1 points" in page(not_started("a"), varied=["steps"])


@pytest.mark.parametrize(
    ("outcome", "status", "told"),
    [
        (FINISHED, "finished", "finished, no switch"),
        (DIVERGED, "diverged", "diverged at step 33, no switch"),
    ],
)
def test_a_point_without_a_switch_says_so(outcome, status, told):
    warmup = {"branch": "warmup", "seed": 0, "step": 0, "time/seconds": 1.0}
    logged = [{**warmup, "loss/full": math.nan}]
    records = {"status": status, "switch_step": None, "branches": {"warmup": outcome}}
    summaries = summarize_seeds(tiny_config().to_dict(), records, logged)
    entry = summarize_point("a", {"steps": 60}, records, summaries)
    assert math.isnan(entry["warmup"]["loss"]["values"][0])
    assert entry["warmup"]["loss"]["mean"] is None
    (row,) = rows([entry])
    assert row["status"] == told
    assert row["switch_step_mean"] is None


def test_seeds_of_which_some_never_switch():
    told = {
        "status": "finished",
        "switch_step": [20, None],
        "branches": {
            "warmup": [{"status": "finished", "step": 20}, FINISHED],
            "plain": [FINISHED, {"status": "not started", "step": None}],
            "bulk": [FINISHED, {"status": "not started", "step": None}],
        },
    }
    config = tiny_config()
    config.seeds, config.modes = 2, ("plain", "bulk")
    logged = [
        line for line in lines(2) if line["seed"] == 0 or line["branch"] == "warmup"
    ]
    summaries = summarize_seeds(config.to_dict(), told, logged)
    entry = summarize_point("a", {"steps": 60}, told, summaries)
    plain = entry["branches"]["plain"]
    assert plain["status"] == ["finished", "not started"]
    assert plain["ratio"]["values"] == [pytest.approx(0.625), None]
    assert plain["ratio"]["spread"] is None
    assert [row["status"] for row in rows([entry])] == ["1 finished, 1 not started"] * 2
