"""A sweep that trains, is told to end and goes on, and what a sink sees of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from experiments import records, sinks, sweep, sweep_run, train
from experiments.sweep_grid import make_points
from tests.experiments.runs import lines_of, small_config


def test_a_sweep_is_told_to_end_and_goes_on(tmp_path, monkeypatch):
    base = small_config()
    base.log.tensorboard = True
    points = make_points(base, {"optimizer.learning_rate": (0.2,)})
    opened = []
    monkeypatch.setattr(sinks, "version", lambda package: "1.0")
    monkeypatch.setattr(sinks, "SINKS", {"tensorboard": recording(opened)})
    sweep_run.check_points(points)
    assert not any(tmp_path.iterdir())

    def run():
        sweep_run.open_sweep(tmp_path, base, points, ["the", "command"])
        (entry,) = sweep_run.run_points(points, tmp_path, "Does it?", train.run)
        return entry

    folder = tmp_path / "learning_rate=0.2"
    append = records.append_metrics

    def append_then_be_told(workdir, line):
        append(workdir, line)
        if len(lines_of(folder, "bulk")) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(records, "append_metrics", append_then_be_told)
        assert run()["status"] == "interrupted"
    assert len(lines_of(folder, "bulk")) == 2
    entry = run()
    assert entry["status"] == "finished"
    assert records.read_config(folder)["optimizer"]["learning_rate"] == 0.2
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    # What the sweep tells is what the run's own lines tell, of its last 10 steps.
    told = json.loads((tmp_path / "sweep.json").read_text())["points"][0]
    window = [line for line in lines_of(folder, "bulk") if line["step"] > 20]
    losses = [line["loss/full"] for line in window]
    loss = told["branches"]["bulk"]["loss"]["mean"]
    assert loss == pytest.approx(sum(losses) / len(losses))
    # At each start a sink gets all lines that the run has kept, and then the new ones.
    metrics = records.read_metrics(folder)
    kept = len(lines_of(folder, "warmup")) + 2
    assert opened == [metrics[:kept], metrics]


def recording(opened):
    """A sink that keeps the lines of each time that it is opened."""

    @contextlib.contextmanager
    def open_sink(config, workdir):
        lines = []
        opened.append(lines)
        yield lambda line: lines.append(
            {k: v.item() if hasattr(v, "item") else v for k, v in line.items()}
        )

    return open_sink


def test_the_command_refuses_a_typo():
    command = [sys.executable, "-m", "experiments.sweep", "--workdir=never"]
    file = "configs/tiny_subspaces/sweep_learning_rate.py"
    result = subprocess.run(
        [*command, f"--sweep={file}", "--config.stepps=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "stepps" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_example_can_be_run():
    example = sweep.read_sweep("configs/tiny_subspaces/sweep_learning_rate.py")
    points = make_points(example.base, example.grid)
    sweep_run.check_points(points)
    assert len(points) > 1
