"""Sweeps: what is run when, and what is refused, with runs that only pretend."""

import json
import re

import pytest

from experiments import records, sweep, sweep_run
from experiments.sweep_grid import make_points
from tests.experiments.runs import tiny_config

SWEEP_FILE = '''
"""Does it work?"""

from tests.experiments.runs import tiny_config

def get_config():
    return tiny_config()

def get_grid():
    return {{"optimizer.learning_rate": {rates}}}
'''


class Runs:
    """Pretended runs; `fates` says how those of some learning rates end."""

    def __init__(self):
        self.fates = {}
        self.calls = []

    def run(self, config, workdir, argv, **options):
        self.calls.append(config.optimizer.learning_rate)
        fate = self.fates.get(config.optimizer.learning_rate, "finished")
        records.open_workdir(workdir, config.to_dict(), argv)
        if isinstance(fate, BaseException):
            raise fate
        line = {"branch": "warmup", "seed": 0, "step": 0, "loss/full": 2.0}
        records.truncate_metrics(workdir, 0)
        records.append_metrics(workdir, {**line, "time/seconds": 0.5})
        ended = {"status": "finished", "step": 60}
        records.write_status(
            workdir, fate, switch_step=None, branches={"warmup": ended}
        )
        return records.read_status(workdir)


@pytest.fixture
def runs(monkeypatch):
    pretended = Runs()
    monkeypatch.setattr(sweep.train, "run", pretended.run)
    monkeypatch.setattr(sweep, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(
        sweep_run.report,
        "write_report",
        lambda folder: (folder / "report.html").write_text("a report"),
    )
    return pretended


@pytest.fixture
def start(tmp_path, runs):
    """Write a sweep file, give the command; return the exit status, or a message."""

    def command(*arguments, rates=(0.1, 0.2), workdir=tmp_path / "sweep"):
        file = tmp_path / "sweep_file.py"
        file.write_text(SWEEP_FILE.format(rates=rates))
        try:
            sweep.main([f"--sweep={file}", f"--workdir={workdir}", *arguments])
        except SystemExit as end:
            return end.code
        return 0

    return command


def stored(tmp_path):
    return json.loads((tmp_path / "sweep" / "sweep.json").read_text())


def statuses(tmp_path):
    return {one["point"]: one["status"] for one in stored(tmp_path)["points"]}


# --- what is run when -----------------------------------------------------------------


def test_each_point_is_a_run_of_its_own_and_is_run_once(start, runs, tmp_path):
    assert start() == 0
    assert runs.calls == [0.1, 0.2]
    for rate in (0.1, 0.2):
        folder = tmp_path / "sweep" / f"learning_rate={rate}"
        assert records.read_config(folder)["optimizer"]["learning_rate"] == rate
        assert (folder / "report.html").exists()
    before = (tmp_path / "sweep" / "sweep.json").read_bytes()
    assert start() == 0
    assert runs.calls == [0.1, 0.2]
    assert (tmp_path / "sweep" / "sweep.json").read_bytes() == before
    assert len(records.read_provenance(tmp_path / "sweep")) == 2


def test_a_failed_point_is_noted_and_tried_again(start, runs, tmp_path, capsys):
    runs.fates = {0.1: RuntimeError("out of | memory\nhere"), 0.2: "diverged"}
    assert "1 of 3" in start(rates=(0.1, 0.2, 0.3))
    assert "out of | memory" in capsys.readouterr().err
    assert runs.calls == [0.1, 0.2, 0.3]
    assert list(statuses(tmp_path).values()) == ["failed", "diverged", "finished"]
    entry = stored(tmp_path)["points"][0]
    assert entry["error"] == "RuntimeError: out of | memory\nhere"
    table = (tmp_path / "sweep" / "sweep.md").read_text()
    assert "`learning_rate=0.1`: RuntimeError: out of | memory here" in table
    # It fails again, then no more; what has ended is left alone.
    assert start(rates=(0.1, 0.2, 0.3)) != 0
    runs.fates = {}
    assert start(rates=(0.1, 0.2, 0.3)) == 0
    assert runs.calls == [0.1, 0.2, 0.3, 0.1, 0.1]
    assert list(statuses(tmp_path).values()) == ["finished", "diverged", "finished"]
    assert stored(tmp_path)["points"][0]["error"] is None


def test_an_interrupted_run_ends_the_sweep_and_is_resumed_first(start, runs, tmp_path):
    runs.fates = {0.2: "interrupted"}
    assert "2 of 3" in start(rates=(0.1, 0.2, 0.3))
    assert runs.calls == [0.1, 0.2]
    expected = ["finished", "interrupted", "not started"]
    assert list(statuses(tmp_path).values()) == expected
    runs.fates = {}
    assert start(rates=(0.1, 0.2, 0.3)) == 0
    assert runs.calls == [0.1, 0.2, 0.2, 0.3]


def test_a_killed_sweep_goes_on(start, runs, tmp_path):
    """The run's own status then says "running", and the report may be missing."""
    assert start(rates=(0.1, 0.2)) == 0
    folder = tmp_path / "sweep" / "learning_rate=0.2"
    records.write_status(folder, "running", switch_step=None, branches={})
    (tmp_path / "sweep" / "learning_rate=0.1" / "report.html").unlink()
    runs.fates = {0.2: RuntimeError("no")}
    start(rates=(0.1, 0.2))
    assert (tmp_path / "sweep" / "learning_rate=0.1" / "report.html").exists()
    assert runs.calls == [0.1, 0.2, 0.1, 0.2]
    runs.fates = {}
    assert start(rates=(0.1, 0.2)) == 0


def test_a_keyboard_interrupt_is_no_failure(start, runs, tmp_path):
    runs.fates = {0.2: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        start()
    assert list(statuses(tmp_path).values()) == ["finished", "not started"]
    runs.fates = {}
    assert start() == 0
    assert runs.calls == [0.1, 0.2, 0.2]


# --- which folder, which grid ---------------------------------------------------------


def test_values_may_come_and_go(start, runs, tmp_path):
    assert start(rates=(0.1, 0.2)) == 0
    assert start(rates=(0.3, 0.2)) == 0
    assert runs.calls == [0.1, 0.2, 0.3]
    assert list(statuses(tmp_path)) == ["learning_rate=0.3", "learning_rate=0.2"]
    assert stored(tmp_path)["not_in_the_grid"] == ["learning_rate=0.1"]
    table = (tmp_path / "sweep" / "sweep.md").read_text()
    assert "not in the table:\n\n- `learning_rate=0.1`" in table
    # They come back as they were.
    assert start(rates=(0.1,)) == 0
    assert len(runs.calls) == 3


def test_another_base_is_refused_by_name_and_nothing_is_touched(start, runs, tmp_path):
    assert start() == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").rglob("*")}
    message = start("--config.steps=90", rates=(0.3,))
    assert "base.steps: 60 there, 90 here" in message
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").rglob("*")}
    assert runs.calls == [0.1, 0.2]
    folder = tmp_path / "sweep" / "learning_rate=0.1"
    assert "holds a run of another configuration" in start(workdir=folder)


def test_another_varied_field_is_refused_by_name(start, runs, tmp_path):
    assert start() == 0
    points = make_points(tiny_config(), {"steps": (60, 70)})
    with pytest.raises(
        records.ForeignWorkdirError,
        match=r'varied: \["optimizer.learning_rate"\] there, \["steps"\] here',
    ):
        sweep_run.open_sweep(tmp_path / "sweep", tiny_config(), points, [])


def test_a_foreign_run_in_a_points_place_is_refused(start, runs, tmp_path):
    folder = tmp_path / "sweep" / "learning_rate=0.2"
    records.open_workdir(folder, tiny_config().to_dict(), [])
    (tmp_path / "sweep" / "config.json").write_text("{}")
    assert "holds a run of another" in start()
    assert not runs.calls


# --- what is refused at once ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "arguments", "message"),
    [
        ((0.1, -1.0), (), "learning_rate=-1.0: .*must be positive, got -1.0"),
        ((0.1, 0.2), ("--config.subspace.k=500",), "2 of 2 points .*k = 500 exceeds"),
        ((0.1, 0.2), ("--config.batch_size=101",), "exceeds the 100 examples"),
        ((0.1,), ("--config.stepps=1",), 'Did you mean "steps"'),
        ((0.1,), ("--config.steps=many",), "many"),
        ((0.1,), ("--confg.steps=1",), "confg"),
        ((0.1,), ("steps=1",), "unexpected arguments: steps=1"),
        ((0.1,), ("--config.optimizer.learning_rate=1",), "the grid varies"),
        ((), (), "has no point"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(
    rates, arguments, message, start, runs, tmp_path
):
    refusal = start(*arguments, rates=rates)
    assert re.match(f"error: .*{message}", refusal, re.DOTALL)
    assert not runs.calls
    assert not (tmp_path / "sweep").exists()


def test_files_that_are_no_sweeps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no sweep file"):
        sweep.read_sweep(tmp_path / "missing.py")
    with pytest.raises(ValueError, match="has no get_grid"):
        sweep.read_sweep("configs/quickstart.py")
