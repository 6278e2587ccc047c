"""Sinks; TensorBoard: what its own reader finds is what was logged."""

import math

import numpy as np
import pytest

from experiments import records, sinks, train
from tests.experiments.logged_lines import expected, interrupted, line, log, require
from tests.experiments.runs import small_config, tiny_config


@pytest.fixture
def tensorboard():
    require("tensorboard")


def assert_same(found, wanted):
    """Equal, and NaN where NaN is wanted."""
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        np.testing.assert_array_equal(found[name], np.float32(points), err_msg=name)


def test_a_line_becomes_numbers_by_name():
    components = {f"v/{i:02d}": float(i) for i in range(1, 11)}
    assert sinks.scalars(
        {
            "branch": "bulk",
            "seed": 3,
            "step": 5,
            "loss/full": np.float32(0.5),
            "v": np.arange(1.0, 11.0),
            "w": [True, 4],
            "m": np.array([[1.0, 2.0], [3.0, 4.0]]),
            "text": "no number",
            "nothing": None,
        }
    ) == {
        "loss/full": 0.5,
        **components,
        "w/1": 1.0,
        "w/2": 4.0,
        **{"m/1/1": 1.0, "m/1/2": 2.0, "m/2/1": 3.0, "m/2/2": 4.0},
    }


def test_a_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "version", lambda package: None)
    for name in ("tensorboard", "wandb"):
        config = tiny_config()
        config.log[name] = True
        with pytest.raises(sinks.MissingPackageError, match=rf"\[{name}\]") as raised:
            train.run(config, tmp_path / "run")
        assert f"EXTRAS={name}" in str(raised.value)
        assert not (tmp_path / "run").exists()
    train.check(tiny_config())


# --- TensorBoard ----------------------------------------------------------------------


def tensorboard_config(seeds=1):
    config = tiny_config()
    config.log.tensorboard = True
    config.seeds = seeds
    return config


def read_events(folder):
    """Read a curve back with TensorBoard's own reader: steps and values by tag."""
    from tensorboard.backend.event_processing import event_accumulator

    reader = event_accumulator.EventAccumulator(
        str(folder), size_guidance={event_accumulator.SCALARS: 0}
    )
    reader.Reload()
    scalars = {tag: reader.Scalars(tag) for tag in reader.Tags()["scalars"]}
    curves = {k: [(e.step, e.value) for e in events] for k, events in scalars.items()}
    times = [event.wall_time for event in scalars["loss/full"]]
    return curves, times


@pytest.mark.usefixtures("tensorboard")
def test_event_files_hold_a_folder_a_branch_and_all_values(tmp_path):
    odd = {"a/nan": math.nan, "a/infinite": np.float32(-np.inf), "a/large": 1e300}
    lines = [line("warmup", step) for step in (0, 5)]
    lines += [line(b, s, **odd) for b in ("plain", "dom") for s in (7, 12, 60)]
    log(tensorboard_config(), tmp_path, lines)
    folder = tmp_path / "tensorboard"
    assert {path.name for path in folder.iterdir()} == {"warmup", "plain", "dom"}
    for branch in ("warmup", "plain", "dom"):
        curves, times = read_events(folder / branch)
        with np.errstate(over="ignore"):  # 1e300 is infinite in an event file
            assert_same(curves, expected(tmp_path, branch))
        # Time in the run, not the time of writing.
        steps = [step for step, _ in curves["loss/full"]]
        np.testing.assert_allclose(np.diff(times), 0.5 * np.diff(steps), rtol=1e-6)


@pytest.mark.usefixtures("tensorboard")
def test_a_resumed_run_has_each_point_once_and_no_forgotten_one(tmp_path):
    config = tensorboard_config(seeds=2)
    lines = [line("plain", step, seed=seed) for step in range(6) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        log(config, tmp_path, interrupted(lines))
    kept = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)[:6]
    records.truncate_metrics(tmp_path, len("".join(kept)))
    # Not as it was before, to tell the two starts apart, and fewer steps.
    again = [
        line("plain", step, seed=seed, **{"loss/full": -1.0 - step})
        for step in (3, 4)
        for seed in (0, 1)
    ]
    log(config, tmp_path, again)
    for seed in (0, 1):
        folder = tmp_path / "tensorboard" / f"plain-seed{seed}"
        assert len(list(folder.iterdir())) == 1
        curves, _ = read_events(folder)
        assert_same(curves, expected(tmp_path, "plain", seed))
        assert [step for step, _ in curves["loss/full"]] == [0, 1, 2, 3, 4]
        assert curves["loss/full"][3:] == [(3, -4.0), (4, -5.0)]


@pytest.mark.slow
@pytest.mark.usefixtures("tensorboard")
def test_a_training_run_that_dies_and_resumes_shows_its_metrics(tmp_path, monkeypatch):
    append, count = records.append_metrics, []

    def append_then_die(workdir, one):
        append(workdir, one)
        count.append(one)
        if len(count) == 6:
            raise KeyboardInterrupt

    config = small_config()
    config.log.tensorboard = True
    with monkeypatch.context() as patch:
        patch.setattr(records, "append_metrics", append_then_die)
        with pytest.raises(KeyboardInterrupt):
            train.run(config, tmp_path)
    assert train.run(config, tmp_path)["status"] == "finished"
    for branch in ("warmup", "bulk"):
        curves, _ = read_events(tmp_path / "tensorboard" / branch)
        assert_same(curves, expected(tmp_path, branch))
