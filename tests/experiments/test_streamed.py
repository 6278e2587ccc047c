"""Training on examples that are not in device memory, against runs where they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, records, train
from experiments.data import streaming
from experiments.passes import mean_over
from tests.experiments.runs import tiny_config, without_times


def in_memory_config():
    config = tiny_config()
    config.steps = 30
    config.measure.spectrum = 0
    config.modes = ("dom", "bulk")
    # Whether a residual just passes is decided by rounding, and so is the basis within
    # the tolerance: a tight one leaves no room.
    config.subspace.tol = 1e-5
    return config


def streamed_config():
    """Passes of 100 examples by 30, so that the last chunk is a ragged one."""
    config = in_memory_config()
    config.task.streamed = True
    config.examples_at_once = 30
    return config


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "streamed"
    assert train.run(streamed_config(), workdir)["status"] == "finished"
    return without_times(records.read_metrics(workdir))


def test_a_streamed_run_is_the_run_in_device_memory(streamed, tmp_path):
    """The same switch, batches and numbers; only the sums round in another order."""
    train.run(in_memory_config(), tmp_path)
    reference = without_times(records.read_metrics(tmp_path))
    assert {line["branch"] for line in reference} == {"warmup", "dom", "bulk"}
    assert len(streamed) == len(reference)
    for line, expected in zip(streamed, reference, strict=True):
        assert line.keys() == expected.keys()
        for name in ("branch", "step", "cost/refreshes"):
            assert line[name] == expected[name]
        # Rounding decides whether a residual just passes, or needs a product more.
        assert abs(line["cost/matvecs"] - expected["cost/matvecs"]) <= 3
        for name in expected:
            if name.startswith(("loss/", "accuracy/")):
                assert line[name] == pytest.approx(expected[name], rel=1e-5)
            if name.startswith("alignment/") or name == "subspace/eigenvalues":
                np.testing.assert_allclose(
                    line[name], expected[name], rtol=2e-3, atol=1e-3, err_msg=name
                )


def test_it_resumes_to_equal_metrics(streamed, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    append, lines = records.append_metrics, []

    def append_until(workdir, line):
        append(workdir, line)
        lines.append(line)
        if len(lines) == len(streamed) - 1:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(records, "append_metrics", append_until)
        with pytest.raises(Stopped):
            train.run(streamed_config(), tmp_path)
    assert train.run(streamed_config(), tmp_path)["status"] == "finished"
    assert without_times(records.read_metrics(tmp_path)) == streamed


def test_with_a_subset_for_the_curvature_the_device_refreshes(tmp_path):
    """Measurements that take products are to be had then."""
    lines = {}
    for name, config in (("m", in_memory_config()), ("s", streamed_config())):
        config.subspace.num_examples = 40
        config.measure.descent = 2
        config.modes = ()
        train.run(config, tmp_path / name)
        lines[name] = without_times(records.read_metrics(tmp_path / name))
    assert any("descent/second_bulk" in line for line in lines["m"])
    for line, expected in zip(lines["s"], lines["m"], strict=True):
        assert line.keys() == expected.keys()
        assert line["cost/refreshes"] == expected["cost/refreshes"]
        np.testing.assert_allclose(
            line["subspace/eigenvalues"], expected["subspace/eigenvalues"], rtol=1e-4
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 2}, "needs seeds = 1, got 2"),
        ({"examples_at_once": 0}, "needs examples_at_once"),
        ({"optimizer.name": "gd"}, "'gd' takes none"),
        ({"measure.spectrum": 1}, "set subspace.num_examples"),
    ],
)
def test_what_cannot_be_streamed_is_refused(fields, message, tmp_path):
    config = streamed_config()
    config.optimizer.name, config.optimizer.momentum = "sgd", 0.0
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        train.run(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_opened_examples_are_those_that_are_loaded():
    source, splits = data.open_streamed("digits", num_train=50, num_kept=7)
    loaded = data.load("digits", num_train=50)
    assert source.num_examples == 50
    for name, expected in loaded.train.items():
        chunks = [chunk[name] for chunk in streaming.chunks(source, 20)]
        np.testing.assert_array_equal(np.concatenate(chunks), expected)
        np.testing.assert_array_equal(splits.train[name], expected[:7])
        np.testing.assert_array_equal(splits.test[name], loaded.test[name])
    assert splits.num_classes == 10


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_opened_images_are_those_that_are_loaded(name, tfds_data_dir):
    source, splits = data.open_streamed(name, num_train=30, num_kept=3)
    loaded = data.load(name, num_train=30)
    assert source.num_examples == 30
    read = source.read(np.arange(30))
    np.testing.assert_array_equal(read["inputs"], loaded.train["inputs"])
    np.testing.assert_array_equal(splits.train["labels"], loaded.train["labels"][:3])
    raw, _ = data.open_streamed(name, num_train=30, standardize=False)
    inputs = raw.read(np.arange(30))["inputs"]
    assert inputs.min() == 0
    assert inputs.max() == 1


@pytest.mark.parametrize("at_once", [0, 1, 4, 5, 11, 12])
def test_means_over_chunks_weigh_a_ragged_last_one(at_once):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(11, 3)), jnp.float32)
    examples = {"x": x, "y": x[:, 0] ** 2}
    largest = []

    def means(part):
        largest.append(len(part["x"]))
        return {
            "x": jnp.mean(part["x"], axis=0),
            "xy": jnp.mean(part["x"].T * part["y"]),
        }

    result = jax.jit(lambda e: mean_over(means, e, at_once))(examples)
    np.testing.assert_allclose(result["x"], np.mean(x, axis=0), rtol=1e-6)
    np.testing.assert_allclose(result["xy"], np.mean(x.T * examples["y"]), rtol=1e-6)
    assert max(largest) == (at_once if 0 < at_once < 11 else 11)
