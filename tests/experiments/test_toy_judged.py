"""What the toy's runs are held to: they pass, and tampered ones do not."""

import json
import math

import numpy as np
import pytest

from configs.tiny_subspaces import toy_gaussian
from experiments import records, toy
from experiments.reproduction.experiment import (
    NO_VERDICT,
    PARTLY,
    REPRODUCED,
    Run,
    verdict,
)
from experiments.reproduction.tiny_subspaces import toy as reproduction
from tests.experiments.toy_runs import small_config

QUADRATIC, GAUSSIAN = reproduction.EXPERIMENTS


def as_read(config, workdir):
    status = toy.run(config, workdir)
    return Run(
        records.read_config(workdir),
        status,
        records.read_metrics(workdir),
        records.read_provenance(workdir),
    )


@pytest.fixture(scope="module")
def quadratic_run(tmp_path_factory):
    """With all the seeds: at 4,096, E xy has a standard error of 1.6 % of its scale."""
    config = small_config()
    config.seeds = 16_384
    return as_read(config, tmp_path_factory.mktemp("toy") / "quadratic")


@pytest.fixture(scope="module")
def gaussian_run(tmp_path_factory):
    """At a rate and a mu at which 120 steps are enough to forget the start."""
    config = small_config(toy_gaussian.get_config)
    config.quadratic.update({"dominant": 1500.0, "bulk": 100.0})
    config.learning_rate = 1e-3
    return as_read(config, tmp_path_factory.mktemp("toy") / "gaussian")


def tampered(run, branch, metric, change, steps=None):
    """Change a metric of a branch, at all steps or at some."""
    lines = [
        {**line, metric: change(line[metric])}
        if line["branch"] == branch and (steps is None or line["step"] in steps)
        else line
        for line in run.lines
    ]
    return run._replace(lines=lines)


def test_a_faithful_run_passes(quadratic_run):
    criteria = QUADRATIC.judge({"": quadratic_run})
    assert [criterion.holds for criterion in criteria] == [True] * 9
    assert {criterion.claim for criterion in criteria} == {"P1-E5"}
    assert verdict(criteria) == REPRODUCED


@pytest.mark.parametrize(
    ("branch", "metric", "change", "steps", "failing"),
    [
        ("plain", "toy/x2", lambda v: 1.1 * v, [60], 0),
        ("plain", "toy/y2", lambda v: 0.9 * v, [60], 0),
        ("plain", "toy/xy", lambda v: v + 0.006, [60], 0),
        ("dom", "toy/x2", lambda v: 0.9 * v, [120], 1),
        ("dom", "toy/x2", lambda v: 1e-9, [0], 1),
        ("bulk", "toy/y2", lambda v: 1.06 * v, [8], 2),
        ("plain", "toy/chi", lambda v: 0.98 * v, None, 3),
        ("gd", "toy/chi", lambda v: 2e-3, [100], 4),
        ("gd_displaced", "toy/chi", lambda v: 2e-3, [100], 5),
        ("dom", "toy/y_min", lambda v: np.nextafter(v, 0), [4], 6),
        ("dom", "toy/y_max", lambda v: np.nextafter(v, 2), [4], 6),
        ("dom", "loss/full", lambda v: 0.96 * v, None, 7),
        ("bulk", "toy/y_max", lambda v: 1.002 * v, [12], 8),
        ("bulk", "toy/y_min", lambda v: 0.998 * v, [12], 8),
    ],
)
def test_each_criterion_can_fail(quadratic_run, branch, metric, change, steps, failing):
    run = tampered(quadratic_run, branch, metric, change, steps)
    criteria = QUADRATIC.judge({"": run})
    assert [i for i, criterion in enumerate(criteria) if not criterion.holds] == [
        failing
    ]
    assert verdict(criteria) == PARTLY


def test_the_dom_loss_is_held_to_the_published_number(quadratic_run):
    criterion = QUADRATIC.judge({"": quadratic_run})[7]
    assert "over 2.167" in criterion.text
    logged = [
        line["loss/full"]
        for line in quadratic_run.lines
        if line["branch"] == "dom" and line["step"] >= 60
    ]
    assert criterion.values == (pytest.approx(np.mean(logged) / (13 / 6)),)


def test_a_branch_that_did_not_end_is_not_judged(quadratic_run):
    lines = [
        line
        for line in quadratic_run.lines
        if line["branch"] != "dom" or line["step"] < 100
    ]
    criteria = QUADRATIC.judge({"": quadratic_run._replace(lines=lines)})
    unknown = [criterion for criterion in criteria if criterion.holds is None]
    assert [criterion.values for criterion in unknown] == [()] * 3
    assert all("'dom' was not run" in criterion.note for criterion in unknown)
    assert verdict(criteria) == NO_VERDICT


def test_a_step_that_was_not_logged_is_not_judged(quadratic_run):
    lines = [line for line in quadratic_run.lines if line["step"] != 100]
    criteria = QUADRATIC.judge({"": quadratic_run._replace(lines=lines)})
    assert [i for i, one in enumerate(criteria) if one.holds is None] == [4, 5]


def test_gaussian_noise_is_held_to_the_closed_form(gaussian_run):
    criteria = GAUSSIAN.judge({"": gaussian_run})
    assert {criterion.claim for criterion in criteria} == {"P1-R5"}
    quotient, ratio, share, chi = (criterion.values[0] for criterion in criteria)
    # a = 1500 / (2 - 1.5), b = 100 / (2 - 0.1).
    limit = 3000 / (3000 + 100 / 1.9)
    assert quotient * limit == pytest.approx(ratio)
    assert share * (1 - limit) == pytest.approx(1 - ratio)
    assert share == pytest.approx(1, abs=0.05)
    # 0.98, below the bound of 0.99: this is another problem than the paper's.
    assert [criterion.holds for criterion in criteria] == [True, False, None, None]
    assert 0.8 < chi < ratio**0.5
    low = tampered(gaussian_run, "plain", "toy/energy_ratio", lambda v: 0.97 * v)
    assert GAUSSIAN.judge({"": low})[0].holds is False


@pytest.mark.parametrize("name", ["quadratic", "gaussian"])
def test_figures_show_the_lines(name, request):
    run = request.getfixturevalue(f"{name}_run")
    experiment = QUADRATIC if name == "quadratic" else GAUSSIAN
    plots = experiment.plots({"": run})
    assert len(plots) == 4
    for plot in plots:
        assert plot.curves
        for curve in plot.curves:
            assert len(curve.x) == len(curve.y) > 0
            # A logarithmic axis has no place for what is not positive.
            assert not plot.log_y or all(y > 0 or math.isnan(y) for y in curve.y)
            assert not plot.log_x or all(x > 0 for x in curve.x)
        json.dumps([curve._asdict() for curve in plot.curves])
    loss = next(plot for plot in plots if plot.title == "Mean loss")
    plain, exact = loss.curves[0], next(c for c in loss.curves if c.name == "exact")
    assert plain.name == "SGD"
    assert plain.y == [m["loss/full"] for m in run.lines if m["branch"] == "plain"]
    at = dict(zip(plain.x, plain.y, strict=True))
    assert 10 < len(exact.x) <= 30
    np.testing.assert_allclose(exact.y, [at[x] for x in exact.x], rtol=0.1)


def test_paths_are_those_of_the_first_seeds(quadratic_run):
    paths = QUADRATIC.plots({"": quadratic_run})[0]
    drawn = [curve for curve in paths.curves if curve.name == "Dom-SGD"]
    lines = [line for line in quadratic_run.lines if line["branch"] == "dom"]
    assert len(drawn) == 4
    for seed, curve in enumerate(drawn):
        assert list(curve.x) == [line["toy/path_x"][seed] for line in lines]
        assert set(curve.y) == {1.0}
