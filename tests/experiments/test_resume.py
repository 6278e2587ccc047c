"""Runs that are killed, told to end, out of disk, or left with a broken checkpoint."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from experiments import records, train
from tests.experiments.runs import (
    lines_of,
    tiny_config,
    tiny_transformer_config,
    without_times,
)

pytestmark = pytest.mark.usefixtures("kept_programs")


@pytest.fixture(scope="module")
def reference(tmp_path_factory, kept_programs):
    """The metrics of a run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("runs") / "reference"
    train.run(tiny_config(), workdir)
    return without_times(records.read_metrics(workdir))


def assert_resumes(workdir, reference, **options):
    status = train.run(tiny_config(), workdir, **options)
    assert status["status"] == "finished"
    assert without_times(records.read_metrics(workdir)) == reference


def at_line(monkeypatch, number, action):
    """Do something right after the n-th line has been written."""
    append, lines = records.append_metrics, []

    def append_then(workdir, line):
        append(workdir, line)
        lines.append(line)
        if len(lines) == number:
            action()

    monkeypatch.setattr(records, "append_metrics", append_then)


def killed_outright(workdir, config_name):
    """Start a run of a process of its own, and kill it once a branch has begun."""
    code = (
        "from experiments import train; from tests.experiments import runs;"
        f"train.run(runs.{config_name}(), {str(workdir)!r})"
    )
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if lines_of(workdir, "plain"):
                break
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it had ended by itself"
    assert records.read_status(workdir)["status"] == "running"


def test_a_process_killed_outright_resumes_to_equal_metrics(reference, tmp_path):
    """SIGKILL, wherever it happens to strike after the first checkpoint."""
    killed_outright(tmp_path, "tiny_config")
    assert_resumes(tmp_path, reference)


@pytest.mark.slow
@pytest.mark.usefixtures("tfds_data_dir")
def test_so_does_a_transformer(tmp_path):
    killed_outright(tmp_path / "killed", "tiny_transformer_config")
    for name in ("killed", "whole"):
        status = train.run(tiny_transformer_config(), tmp_path / name)
        assert status["status"] == "finished"
    killed, whole = (
        without_times(records.read_metrics(tmp_path / name))
        for name in ("killed", "whole")
    )
    assert killed == whole


def test_a_run_told_to_end_saves_its_state_and_says_so(
    reference, tmp_path, monkeypatch
):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        at_line(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        status = train.run(tiny_config(), tmp_path)
    assert status["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before
    # It ends at the next line and loses nothing.
    assert without_times(records.read_metrics(tmp_path)) == reference[:2]
    appended = []
    with monkeypatch.context() as patch:
        append = records.append_metrics
        patch.setattr(
            records,
            "append_metrics",
            lambda workdir, line: (appended.append(line), append(workdir, line)),
        )
        assert_resumes(tmp_path, reference)
    assert len(appended) == len(reference) - 2


def test_a_full_disk_ends_the_run_with_its_status_and_data(
    reference, tmp_path, monkeypatch
):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def disk_is_full():
        patch.setattr(Path, "write_text", no_space)
        no_space()

    with monkeypatch.context() as patch:
        at_line(patch, 9, disk_is_full)
        with pytest.raises(OSError, match="No space left"):
            train.run(tiny_config(), tmp_path)
    status = records.read_status(tmp_path)
    assert status["status"] == "interrupted"
    assert "No space left" in status["error"]
    assert without_times(records.read_metrics(tmp_path)) == reference[:9]
    assert_resumes(tmp_path, reference)


def test_a_corrupt_checkpoint_is_named_and_the_one_before_is_used_when_asked(
    reference, tmp_path, monkeypatch
):
    def die():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        at_line(patch, 14, die)
        with pytest.raises(KeyboardInterrupt):
            train.run(tiny_config(), tmp_path)
    steps = tmp_path / "checkpoints" / "steps"
    latest = max(steps.iterdir(), key=lambda path: int(path.name))
    for path in (latest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(records.CorruptCheckpointError, match=f"steps/{latest.name} "):
        train.run(tiny_config(), tmp_path)
    assert latest.exists()
    assert_resumes(tmp_path, reference, from_older_checkpoint=True)
