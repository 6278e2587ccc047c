"""The records of a run: what is written is what is read, and nothing is lost."""

import json
import math
import subprocess
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import provenance, records

CONFIG = {
    "title": "a run",
    "steps": 10,
    "optimizer": {"learning_rate": 0.1, "betas": (0.9, 0.999)},
    "max_interval": math.inf,
}


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# The folder.


def test_a_fresh_folder_gets_configuration_and_provenance(tmp_path):
    workdir = records.open_workdir(tmp_path / "new" / "run", CONFIG, ["main", "--x"])
    assert not workdir.resumed
    assert workdir.path == tmp_path / "new" / "run"
    stored = json.loads((workdir.path / "config.json").read_text())
    assert stored["max_interval"] == "Infinity"
    assert stored["optimizer"] == {"learning_rate": 0.1, "betas": [0.9, 0.999]}
    assert records.read_config(workdir)["max_interval"] == math.inf
    (run,) = records.read_provenance(workdir)
    assert run["argv"] == ["main", "--x"]
    assert run["versions"]["jax"] == jax.__version__
    assert run["devices"]["count"] == jax.device_count()
    assert run["backend"] == jax.default_backend()
    assert run["started"].endswith("+00:00")


def test_the_same_configuration_resumes_and_adds_to_the_provenance(tmp_path):
    records.open_workdir(tmp_path, CONFIG, ["first"])
    before = (tmp_path / "config.json").read_bytes()
    workdir = records.open_workdir(tmp_path, CONFIG, ["second"])
    assert workdir.resumed
    assert (tmp_path / "config.json").read_bytes() == before
    runs = records.read_provenance(tmp_path)
    assert [run["argv"] for run in runs] == [["first"], ["second"]]


def test_another_configuration_is_refused_untouched(tmp_path):
    records.open_workdir(tmp_path, CONFIG, [])
    before = files(tmp_path)
    other = {**CONFIG, "steps": 20, "optimizer": {"learning_rate": 0.1}, "new": None}
    with pytest.raises(records.ForeignWorkdirError) as error:
        records.open_workdir(tmp_path, other, [])
    message = str(error.value)
    assert "steps: 10 there, 20 here" in message
    assert "optimizer.betas: [0.9, 0.999] there, nothing here" in message
    assert "new: nothing there, null here" in message
    assert "learning_rate" not in message
    assert files(tmp_path) == before


def test_a_run_from_before_an_option_resumes_with_its_default(tmp_path):
    records.open_workdir(tmp_path, CONFIG, [])

    def with_option(value):
        optimizer = {**CONFIG["optimizer"], "skip_not_finite": value}
        return {**CONFIG, "optimizer": optimizer}

    assert records.open_workdir(tmp_path, with_option(False), []).resumed
    with pytest.raises(records.ForeignWorkdirError, match="skip_not_finite: false th"):
        records.open_workdir(tmp_path, with_option(True), [])


def test_at_most_five_differences_are_named(tmp_path):
    records.open_workdir(tmp_path, {f"field{i}": 0 for i in range(8)}, [])
    with pytest.raises(records.ForeignWorkdirError) as error:
        records.open_workdir(tmp_path, {f"field{i}": 1 for i in range(8)}, [])
    assert str(error.value).count("0 there, 1 here") == 5
    assert "and 3 more" in str(error.value)


def test_a_folder_of_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(records.ForeignWorkdirError, match="holds no run"):
        records.open_workdir(tmp_path, CONFIG, [])
    assert files(tmp_path).keys() == {(tmp_path / "notes.txt").relative_to(tmp_path)}


# Provenance.


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


def test_git_revision(tmp_path):
    source, other = tmp_path / "source.py", tmp_path / "other.py"
    source.write_text("1")
    assert provenance.git_revision(source) is None
    git(tmp_path, "init", "-q")
    assert provenance.git_revision(source) is None
    git(tmp_path, "add", "source.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = provenance.git_revision(source)
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    other.write_text("untracked")
    assert provenance.git_revision(source) == clean
    assert provenance.git_revision(other) is None
    source.write_text("2")
    assert provenance.git_revision(source) == {**clean, "dirty": True}


def test_git_revision_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_revision(tmp_path / "source.py") is None


# Status.


def test_status(tmp_path):
    records.write_status(tmp_path, "running", switch_step=None)
    records.write_status(tmp_path, "finished", loss=math.nan, branches={"dom": 1})
    status = records.read_status(tmp_path)
    assert status.pop("loss") != 0  # NaN
    assert status == {"status": "finished", "branches": {"dom": 1}}
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    with pytest.raises(ValueError, match="'done'; known ones: running, finished"):
        records.write_status(tmp_path, "done")


# Metrics.


def test_metrics_come_back_exactly(tmp_path):
    values = {
        "branch": "plain",
        "step": 3,
        "third": 1 / 3,
        "tiny": 5e-324,
        "float32": jnp.float32(0.1),
        "numpy": np.float64(1e300),
        "integer": jnp.int32(7),
        "flag": np.bool_(True),
        "list": jnp.array([0.1, math.inf, -0.0], jnp.float32),
        "tuple": (1.5, math.nan),
        "infinity": math.inf,
        "minus infinity": jnp.float32(-jnp.inf),
        "nothing": None,
    }
    records.append_metrics(tmp_path, values)
    records.append_metrics(tmp_path, {"nan": jnp.float32(jnp.nan)})
    first, second = records.read_metrics(tmp_path)
    assert math.isnan(first["tuple"][1])
    assert math.isnan(second["nan"])
    assert np.float32(first["float32"]) == np.float32(0.1)
    assert first["list"][:2] == [float(np.float32(0.1)), math.inf]
    assert math.copysign(1, first["list"][2]) == -1
    assert first["infinity"] == math.inf
    assert first["minus infinity"] == -math.inf
    for name in ("branch", "step", "third", "tiny", "numpy", "integer", "nothing"):
        assert first[name] == values[name]
    assert first["flag"] is True


def test_metrics_are_strict_json_lines(tmp_path):
    records.append_metrics(tmp_path, {"a": [math.nan, math.inf, -math.inf]})
    text = (tmp_path / "metrics.jsonl").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    assert text.endswith("\n")
    line = json.loads(text, parse_constant=refuse)
    assert line == {"a": ["NaN", "Infinity", "-Infinity"]}


def test_matrices_are_lists_of_lists(tmp_path):
    records.append_metrics(tmp_path, {"matrix": np.array([[1.5, math.nan], [0, 2]])})
    (line,) = records.read_metrics(tmp_path)
    (first, second), (third, fourth) = line["matrix"]
    assert (first, third, fourth) == (1.5, 0, 2)
    assert math.isnan(second)


@pytest.mark.parametrize("value", [{"nested": 1}, [{"nested": 1}], object()])
def test_other_values_are_refused_by_name(tmp_path, value):
    with pytest.raises(TypeError, match="'loss/full'"):
        records.append_metrics(tmp_path, {"loss/full": value})
    assert records.metrics_offset(tmp_path) == 0


def test_truncation_forgets_what_came_after_the_offset(tmp_path):
    assert records.metrics_offset(tmp_path) == 0
    records.truncate_metrics(tmp_path, 0)
    assert records.read_metrics(tmp_path) == []
    for step in range(3):
        records.append_metrics(tmp_path, {"step": step, "name": "χ"})
        if step == 1:
            offset = records.metrics_offset(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "na')
    assert [line["step"] for line in records.read_metrics(tmp_path)] == [0, 1, 2]
    records.truncate_metrics(tmp_path, offset)
    records.append_metrics(tmp_path, {"step": 2})
    assert [line["step"] for line in records.read_metrics(tmp_path)] == [0, 1, 2]
    with pytest.raises(ValueError, match="only"):
        records.truncate_metrics(tmp_path, 10_000)


# Checkpoints.


class State(NamedTuple):
    params: Any
    extra: Any
    empty: Any


def state(seed):
    key = jax.random.key(seed)
    return {
        "optimizer": (
            State({"w": jax.random.normal(key, (4, 3))}, None, ()),
            State({}, (), jnp.zeros((), jnp.bool_)),
        ),
        "special": jnp.array([math.nan, math.inf, -0.0, 1e-45, 1 / 3], jnp.float32),
        "half": jnp.array([1.5, -2.25], jnp.bfloat16),
        "key": jax.random.key_data(key),
        "step": jnp.asarray(seed, jnp.int32),
        "flags": jnp.array([True, False]),
    }


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for left, right in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        assert isinstance(left, jax.Array)
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes()


def test_no_checkpoint(tmp_path):
    assert records.restore_checkpoint(tmp_path, state(0)) is None


def test_the_latest_checkpoint_comes_back_bit_for_bit(tmp_path, caplog, capfd):
    metadata = {"metrics_offset": 2**40, "branch": "dom", "none": None, "x": math.nan}
    for step_id in (1, 5, 30):
        records.save_checkpoint(tmp_path, step_id, state(step_id), metadata)
    restored = records.restore_checkpoint(tmp_path, state(0))
    assert restored is not None
    tree, known = restored
    assert_same_bits(tree, state(30))
    assert math.isnan(known.pop("x"))
    assert known == {"metrics_offset": 2**40, "branch": "dom", "none": None}
    abstract = jax.eval_shape(lambda: state(0))
    assert_same_bits(records.restore_checkpoint(tmp_path, abstract)[0], state(30))
    kept = {path.name for path in (tmp_path / "checkpoints" / "steps").iterdir()}
    assert kept == {"5", "30"}
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_cut_off_by_a_crash_is_ignored(tmp_path):
    for step_id in (1, 2):
        records.save_checkpoint(tmp_path, step_id, state(step_id), {})
    folder = tmp_path / "checkpoints" / "steps"
    cut_off = folder / "3.orbax-checkpoint-tmp"
    (folder / "2").rename(cut_off)
    tree, _ = records.restore_checkpoint(tmp_path, state(0))
    assert_same_bits(tree, state(1))
    assert cut_off.exists()  # Cleaned when saving: two cleaners would race.
    records.save_checkpoint(tmp_path, 3, state(3), {})
    assert not cut_off.exists()
    tree, _ = records.restore_checkpoint(tmp_path, state(0))
    assert_same_bits(tree, state(3))


def test_checkpoints_move_forward(tmp_path):
    records.save_checkpoint(tmp_path, 4, state(4), {})
    for step_id in (3, 4):
        with pytest.raises(ValueError, match="after the last one, 4"):
            records.save_checkpoint(tmp_path, step_id, state(0), {})
    assert_same_bits(records.restore_checkpoint(tmp_path, state(0))[0], state(4))


def test_another_tree_is_refused(tmp_path):
    records.save_checkpoint(tmp_path, 1, {"w": jnp.zeros((2, 3))}, {})
    for other in ({"w": jnp.zeros((3, 2))}, {"v": jnp.zeros((2, 3))}):
        with pytest.raises(records.CorruptCheckpointError, match=r"shape|structure"):
            records.restore_checkpoint(tmp_path, other)


def test_named_checkpoints_stay(tmp_path, capfd):
    workdir = records.Workdir(tmp_path, resumed=False)
    records.save_named(workdir, "switch", state(1))
    for step_id in range(4):
        records.save_checkpoint(workdir, step_id, state(step_id), {})
    assert_same_bits(records.restore_named(workdir, "switch", state(0)), state(1))
    records.save_named(workdir, "switch", state(2))
    assert_same_bits(records.restore_named(workdir, "switch", state(0)), state(2))
    with pytest.raises(FileNotFoundError, match="'end'"):
        records.restore_named(workdir, "end", state(0))
    assert capfd.readouterr() == ("", "")
