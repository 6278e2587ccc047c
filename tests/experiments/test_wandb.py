"""Weights & Biases: what its own offline files hold is what was logged."""

import json
import math
import os
import struct

import numpy as np
import pytest

from experiments import records
from tests.experiments.logged_lines import expected, interrupted, line, log, require
from tests.experiments.runs import tiny_config


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
def test_wandb_begins_anew_under_the_same_ids_when_resumed(tmp_path, capfd):
    config = wandb_config(seeds=2)
    lines = [line("plain", step, seed=seed) for step in range(4) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        log(config, tmp_path, interrupted(lines))
    assert "Traceback" not in capfd.readouterr().err
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
