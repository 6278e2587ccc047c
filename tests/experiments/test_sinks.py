"""TensorBoard and Weights & Biases: what their own files hold is what was logged."""

import json
import math
import os
import struct

import numpy as np
import pytest

from experiments import provenance, records, sinks, train
from tests.experiments.runs import lines_of, tiny_config


@pytest.fixture
def tensorboard():
    require("tensorboard")


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """Weights & Biases as it is where nobody has set anything."""
    require("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    # Set first, so that it is restored.
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    yield
    import wandb

    wandb.teardown()


def require(package):
    """Skip without the package; with REQUIRE_LOGGERS=1, fail."""
    if provenance.version(package) is None:
        reason = f"needs {package}: make test EXTRAS={package}"
        if os.environ.get("REQUIRE_LOGGERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def line(branch, step, *, seed=0, **metrics):
    """A line as the training loop writes one, NumPy scalars and arrays in it."""
    return {
        "branch": branch,
        "seed": seed,
        "step": step,
        "loss/full": np.float32(0.1 + step),
        "cost/matvecs": np.int32(7 * step),
        "subspace/eigenvalues": np.array([3.0, 2.0, 0.1], np.float32) + step,
        **metrics,
        "time/seconds": 0.5 * step,
    }


def log(config, workdir, lines):
    """Open a run's records and sinks, as a start of the run does, and log."""
    folder = records.open_workdir(workdir, config.to_dict(), ["run"]).path
    with sinks.opened(config, folder) as to_sinks:
        for one in lines:
            records.append_metrics(folder, one)
            to_sinks(one)


def expected(workdir, branch, seed=None):
    """Each metric's steps and values in metrics.jsonl, taken apart by hand."""
    curves = {}
    for logged in lines_of(workdir, branch, seed):
        for name, value in logged.items():
            if isinstance(value, list):
                values = {f"{name}/{i + 1}": item for i, item in enumerate(value)}
            else:
                values = {name: value}
            for key, item in values.items():
                if key not in ("branch", "seed", "step"):
                    curves.setdefault(key, []).append((logged["step"], item))
    assert curves
    return curves


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
            "text": "no number",
            "nothing": None,
        }
    ) == {"loss/full": 0.5, **components, "w/1": 1.0, "w/2": 4.0}


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


def interrupted(lines):
    yield from lines
    raise KeyboardInterrupt


@pytest.mark.usefixtures("tensorboard")
def test_a_training_run_that_dies_and_resumes_shows_its_metrics(tmp_path, monkeypatch):
    append, count = records.append_metrics, []

    def append_then_die(workdir, one):
        append(workdir, one)
        count.append(one)
        if len(count) == 9:
            raise KeyboardInterrupt

    config = tensorboard_config()
    config.modes = ("bulk",)
    with monkeypatch.context() as patch:
        patch.setattr(records, "append_metrics", append_then_die)
        with pytest.raises(KeyboardInterrupt):
            train.run(config, tmp_path)
    assert train.run(config, tmp_path)["status"] == "finished"
    assert len(records.read_metrics(tmp_path)) < len(count) + 9
    for branch in ("warmup", "bulk"):
        curves, _ = read_events(tmp_path / "tensorboard" / branch)
        assert_same(curves, expected(tmp_path, branch))


# --- Weights & Biases -----------------------------------------------------------------


def wandb_config(seeds=1):
    config = tiny_config()
    config.log.wandb = True
    config.seeds = seeds
    return config


def read_wandb(path):
    """Read a .wandb file, a LevelDB log of protocol buffers: the run, and its history.

    Blocks of 32 KiB hold records, or parts of them, behind a head of checksum, length
    and kind: whole 1, first 2, middle 3, last 4.
    """
    from wandb.proto import wandb_internal_pb2

    data, position, buffer, run, history = path.read_bytes(), 7, b"", None, []
    assert data.startswith(b":W&B")
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        buffer += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record.FromString(buffer)
            buffer = b""
            if record.HasField("run"):
                run = record.run
            if record.HasField("history"):
                items = record.history.item
                history.append(
                    {i.nested_key[0]: json.loads(i.value_json) for i in items}
                )
    return run, history


def curves_of(history):
    curves = {}
    for entry in history:
        for name, value in entry.items():
            if not name.startswith("_"):
                curves.setdefault(name, []).append((entry["_step"], float(value)))
    return curves


def wandb_runs(workdir):
    """The runs in a folder by their ids, and their histories."""
    import wandb

    wandb.teardown()  # its service writes the last of them after `finish`
    files = sorted((workdir / "wandb").glob("*run-*/*.wandb"))
    found = [read_wandb(path) for path in files]
    return {run.run_id: (run, history) for run, history in found}


@pytest.mark.usefixtures("wandb")
def test_wandb_holds_a_run_a_branch_offline_by_default(tmp_path):
    workdir = tmp_path / "sweep" / "point"
    lines = [line("warmup", 0), line("bulk", 7), line("bulk", 12, odd=math.nan)]
    lines[1]["loss/full"] = np.float32(np.inf)
    log(wandb_config(), workdir, lines)
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    runs = wandb_runs(workdir)
    own_id = (workdir / "wandb" / "id").read_text()
    assert set(runs) == {f"{own_id}-warmup", f"{own_id}-bulk"}
    assert len(list((workdir / "wandb").glob("offline-run-*"))) == 2
    for branch in ("warmup", "bulk"):
        run, history = runs[f"{own_id}-{branch}"]
        assert run.display_name == run.job_type == branch
        assert run.run_group == "sweep/point"
        assert run.project == "dominant"
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["branch"] == branch
        assert config["optimizer"]["learning_rate"] == 0.1
        assert_same_doubles(curves_of(history), expected(workdir, branch))


@pytest.mark.usefixtures("wandb")
def test_wandb_begins_anew_under_the_same_ids_when_resumed(tmp_path):
    config = wandb_config(seeds=2)
    lines = [line("plain", step, seed=seed) for step in range(4) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        log(config, tmp_path, interrupted(lines))
    first = wandb_runs(tmp_path)
    # All that it had logged is lost, as when there was no checkpoint yet.
    records.truncate_metrics(tmp_path, 0)
    log(config, tmp_path, [line("plain", 3, seed=seed) for seed in (0, 1)])
    second = wandb_runs(tmp_path)
    assert first.keys() == second.keys()
    for seed in (0, 1):
        (name,) = (name for name in second if name.endswith(f"-plain-seed{seed}"))
        assert len(first[name][1]) == 4
        assert [entry["_step"] for entry in second[name][1]] == [3]
        found = curves_of(second[name][1])
        assert_same_doubles(found, expected(tmp_path, "plain", seed))


@pytest.mark.usefixtures("wandb")
def test_the_users_wandb_mode_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log(wandb_config(), tmp_path, [line("plain", 0)])
    assert not wandb_runs(tmp_path)
    assert "WANDB_ERROR_REPORTING" not in os.environ


@pytest.mark.usefixtures("wandb")
def test_wandbs_service_ends_with_it(tmp_path):
    import psutil

    log(wandb_config(), tmp_path, [line("plain", 0)])
    import wandb

    services = [p for p in psutil.Process().children() if "wandb" in p.name()]
    assert services
    wandb.teardown()
    _, alive = psutil.wait_procs(services, timeout=20)
    assert not alive


def assert_same_doubles(found, wanted):
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        np.testing.assert_array_equal(found[name], points, err_msg=name)
