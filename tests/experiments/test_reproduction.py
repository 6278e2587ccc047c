"""Experiments of papers: their configs at each scale, their judges, the command."""

import math

import pytest

from experiments import records
from experiments.reproduction import judging, main, runner
from experiments.reproduction.design import SCALE_NAMES, read_design
from experiments.reproduction.experiment import (
    NO_VERDICT,
    NOT_REPRODUCED,
    PARTLY,
    REPORTED,
    REPRODUCED,
    Criterion,
    verdict,
)
from experiments.reproduction.plots import Map
from experiments.train import check

EXPERIMENTS = {
    f"{paper}/{one.name}": one
    for paper, module in main.PAPERS.items()
    for one in module.EXPERIMENTS
}
# One of a single run, one with a grid; all are run by the slow tests.
COVERING = ("tiny_subspaces/gd_edge", "tiny_subspaces/effective_rates")


def design_of(name, scale):
    return read_design(f"configs/{name}.py", scale)


@pytest.mark.parametrize("scale", SCALE_NAMES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_config_can_be_run_at_every_scale(name, scale):
    design = design_of(name, scale)
    assert design.points
    assert name in design.question
    if EXPERIMENTS[name].run is None:
        for point in design.points:
            check(point.config)
    ids = [claim.id for claim in EXPERIMENTS[name].claims]
    assert any(part in design.question for part in ids[0].split())


def test_a_scale_says_what_it_changes():
    assert not design_of("tiny_subspaces/sam", "paper").changes
    changes = design_of("tiny_subspaces/sam", "cpu").changes
    assert changes["steps"] == (20_000, 5000)
    design = design_of("tiny_subspaces/sam", "ci")
    assert design.left_out == ("sam_rho=0.05",)
    assert [point.name for point in design.points] == ["sam_rho=0.1"]


def test_a_scale_that_changes_no_field_is_refused(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        "from configs import defaults\n"
        "get_config = defaults.get_config\n"
        "SCALES = {'cpu': {'stepz': 3}}\n"
    )
    with pytest.raises(ValueError, match="unknown field 'stepz'"):
        read_design(path, "cpu")
    with pytest.raises(ValueError, match="unknown scale 'gpu'; known ones: ci, cpu"):
        read_design(path, "gpu")


def assert_reproduces(name, folder):
    """Run an experiment in little; every claim gets criteria, and no number is NaN."""
    main.main([f"--out={folder}", "--scale=ci", "--experiments", name])
    experiment = EXPERIMENTS[name]
    found = folder / "ci" / name.split("/")[0]
    runs = runner.read_runs(design_of(name, "ci"), found / experiment.name)
    criteria = experiment.judge(runs)
    assert {one.claim for one in criteria} == {claim.id for claim in experiment.claims}
    assert not any(math.isnan(value) for one in criteria for value in one.values)
    assert all(isinstance(p, Map) or p.curves for p in experiment.plots(runs))
    page = (found / "report.html").read_text(encoding="utf-8")
    assert experiment.title in page
    assert (found / "figures" / f"{experiment.name}.png").exists()
    return found, criteria


@pytest.mark.parametrize("name", COVERING)
def test_an_experiment_in_little(name, tmp_path, monkeypatch):
    found, _ = assert_reproduces(name, tmp_path)
    # Nothing is run again.
    monkeypatch.setattr(main.train, "run", None)
    before = (found / "verdicts.json").read_text(encoding="utf-8")
    assert_reproduces(name, tmp_path)
    assert (found / "verdicts.json").read_text(encoding="utf-8") == before


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in COVERING])
def test_every_experiment_in_little(name, tmp_path, tfds_data_dir):
    assert_reproduces(name, tmp_path)


def test_a_run_that_fails_gives_no_verdict_and_the_next_one_follows(
    tmp_path, monkeypatch
):
    ran = []

    def run(config, workdir, argv):
        ran.append(config.optimizer.name)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(main.train, "run", run)
    with pytest.raises(SystemExit, match="some runs failed"):
        main.main(
            [
                f"--out={tmp_path}",
                "--scale=ci",
                "--experiments=tiny_subspaces/effective_rates",
            ]
        )
    assert ran == ["sgd", "heavy_ball"]
    text = (tmp_path / "ci/tiny_subspaces/verdicts.json").read_text(encoding="utf-8")
    assert "out of memory" in text
    assert f'"verdict": "{NO_VERDICT}"' in text
    assert REPRODUCED not in text.replace(NOT_REPRODUCED, "")


def test_another_config_in_a_runs_folder_is_refused(tmp_path):
    folder = tmp_path / "ci" / "tiny_subspaces" / "gd_edge" / "run"
    records.open_workdir(folder, {"steps": 3}, [])
    with pytest.raises(SystemExit, match="another configuration"):
        main.main(
            [f"--out={tmp_path}", "--scale=ci", "--experiments=tiny_subspaces/gd_edge"]
        )


def test_experiments_are_chosen_by_paper_and_name():
    assert main.choose([]) == {
        paper: list(module.EXPERIMENTS) for paper, module in main.PAPERS.items()
    }
    chosen = main.choose(["tiny_subspaces/sam", "tiny_subspaces/gd_edge"])
    assert [one.name for one in chosen["tiny_subspaces"]] == ["sam", "gd_edge"]
    with pytest.raises(ValueError, match="unknown paper 'big_subspaces'"):
        main.choose(["big_subspaces"])
    with pytest.raises(ValueError, match="unknown experiment of tiny_subspaces 'sum'"):
        main.choose(["tiny_subspaces/sum"])


def criterion(holds, values=(1.0,)):
    return Criterion("P1-E1", "a number", values, holds)


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ((True, True, None), REPRODUCED),
        ((True, False), PARTLY),
        ((False, False, None), NOT_REPRODUCED),
        ((None, None), REPORTED),
        ((), NO_VERDICT),
    ],
)
def test_verdicts(holds, expected):
    assert verdict(map(criterion, holds)) == expected
    assert verdict([*map(criterion, holds), criterion(None, ())]) == NO_VERDICT


def test_numbers_are_held_to_their_bounds_in_the_mean():
    assert judging.at_most("P1-E1", "x", [0.5, 0.7], 0.6).holds
    assert not judging.at_most("P1-E1", "x", [0.5, 0.71], 0.6).holds
    assert judging.at_least("P1-E1", "x", [0.6], 0.6).holds
    assert not judging.at_most("P1-E1", "x", [math.inf], 0.6).holds
    assert not judging.at_least("P1-E1", "x", [math.inf], 0.6).holds
    unknown = judging.at_most("P1-E1", "x", [0.1, math.nan], 0.6, "the run diverged")
    assert (unknown.values, unknown.holds, unknown.note) == (
        (),
        None,
        "the run diverged",
    )
