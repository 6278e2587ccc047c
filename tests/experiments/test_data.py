"""Data sets against what is known of them from elsewhere."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from experiments import data, prepare


def listing(folder):
    """Everything that a write would change."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def test_digits_are_scikit_learns_in_order():
    splits = data.load("digits")
    source = load_digits()
    inputs = np.concatenate([splits.train["inputs"], splits.test["inputs"]])
    labels = np.concatenate([splits.train["labels"], splits.test["labels"]])
    assert splits.train["inputs"].shape == (1500, 8, 8, 1)
    assert splits.test["inputs"].shape == (297, 8, 8, 1)
    assert inputs.dtype == np.float32
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(16 * inputs.reshape(-1, 64), source.data)
    np.testing.assert_array_equal(labels, source.target)
    assert splits.num_classes == 10


def test_num_train_keeps_the_first_ones_and_all_test_examples():
    whole, part = data.load("digits"), data.load("digits", num_train=7)
    np.testing.assert_array_equal(part.train["inputs"], whole.train["inputs"][:7])
    np.testing.assert_array_equal(part.train["labels"], whole.train["labels"][:7])
    np.testing.assert_array_equal(part.test["inputs"], whole.test["inputs"])


@pytest.mark.parametrize("num_train", [0, -1, 1501])
def test_impossible_num_train_is_refused(num_train):
    with pytest.raises(ValueError, match=rf"1500 training .*num_train={num_train}"):
        data.load("digits", num_train=num_train)


def test_unknown_name_lists_the_known_ones():
    known = (
        "cifar10, digits, fashion_mnist, gaussian_mixture, mnist, nonlinear_prompts, "
        "prompts, sst2, "
        "tiny_shakespeare, xor_mixture$"
    )
    with pytest.raises(ValueError, match=f"'imagenet'; known ones: {known}"):
        data.load("imagenet")


def test_unknown_option_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"digits has no option 'context'.*: none"):
        data.load("digits", context=3)
    with pytest.raises(ValueError, match=r"mnist has no option 'ctx'.*: standardize"):
        data.load("mnist", ctx=3)
    known = "vocabulary, vocabulary_size"
    with pytest.raises(ValueError, match=f"sst2 has no option 'size'.*: {known}"):
        data.load("sst2", size=3)


def test_missing_data_set_says_how_to_prepare_it(tmp_path, caplog):
    with pytest.raises(data.MissingDatasetError) as error:
        data.load("mnist", data_dir=tmp_path)
    message = str(error.value)
    assert f"'mnist' is not in {tmp_path}." in message
    assert f"TFDS_DATA_DIR={tmp_path} make data DATASET=mnist\n" in message
    assert "pip install '.[prepare]'\n" in message
    assert f"python -m experiments.prepare mnist --data_dir {tmp_path}\n" in message
    assert isinstance(error.value, FileNotFoundError)
    assert not caplog.records
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "prepared"),
    [
        ("cifar10", "cifar10"),
        ("fashion_mnist", "fashion_mnist"),
        ("sst2", "glue/sst2"),
        ("tiny_shakespeare", "tiny_shakespeare"),
    ],
)
def test_each_missing_data_set_names_its_command(name, prepared, tmp_path):
    with pytest.raises(data.MissingDatasetError) as error:
        data.load(name, data_dir=tmp_path)
    assert f"is not in {tmp_path}." in str(error.value)
    assert f" make data DATASET={prepared}\n" in str(error.value)


def test_data_dir_defaults_to_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.MissingDatasetError, match=f"is not in {tmp_path}"):
        data.load("mnist")


def test_mnist(tfds_data_dir, caplog):
    before = listing(tfds_data_dir)
    splits = data.load("mnist", num_train=50, data_dir=tfds_data_dir)
    assert splits.train["inputs"].shape == (50, 28, 28, 1)
    assert splits.test["inputs"].shape == (10_000, 28, 28, 1)
    assert splits.train["inputs"].dtype == np.float32
    assert splits.train["labels"].dtype == np.int32
    assert splits.num_classes == 10
    # The order that TensorFlow Datasets gave to version 3.0.1.
    assert splits.train["labels"][:10].tolist() == [4, 1, 0, 7, 8, 1, 2, 7, 1, 6]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(splits.test["labels"]).tolist() == counts
    # Pixels of 0..255 divided by 255; some are white.
    pixels = 255 * splits.test["inputs"]
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-4)
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert listing(tfds_data_dir) == before
    assert not caplog.records


def test_mnist_order_is_the_documented_shuffle_of_the_original(tfds_data_dir):
    """TensorFlow Datasets sorts examples by the MD5 of split name and index."""
    labels = data.load("mnist", num_train=1, data_dir=tfds_data_dir).test["labels"]
    digests = [
        hashlib.md5(f"test{index}".encode()).hexdigest() for index in range(10_000)
    ]
    original = np.empty_like(labels)
    original[np.argsort(digests)] = labels
    # The start of t10k-labels-idx1-ubyte.
    assert original[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_mnist_is_read_without_tensorflow(tfds_data_dir):
    program = (
        "import sys\n"
        "from experiments import data\n"
        f"data.load('mnist', num_train=2, data_dir={str(tfds_data_dir)!r})\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


def test_fashion_mnist(tfds_data_dir):
    if not (tfds_data_dir / "fashion_mnist").exists():
        pytest.skip("needs fashion_mnist in TFDS_DATA_DIR")
    splits = data.load("fashion_mnist", num_train=50, data_dir=tfds_data_dir)
    assert splits.train["inputs"].shape == (50, 28, 28, 1)
    assert np.bincount(splits.test["labels"]).tolist() == 10 * [1000]


def test_prepare_asks_for_tensorflow(monkeypatch):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[prepare\]'"):
        prepare.main(["mnist"])


def test_prepare_writes_what_can_be_read_without_tensorflow(
    monkeypatch, tmp_path, capsys
):
    asked = {}

    class Builder:
        data_path = tmp_path / "mnist"

        def __init__(self, name, **options):
            asked.update(options, name=name)

        def download_and_prepare(self):
            asked["prepared"] = True

    monkeypatch.setattr(tfds, "builder", Builder)
    prepare.prepare("mnist", str(tmp_path))
    assert asked == {
        "name": "mnist",
        "data_dir": str(tmp_path),
        "file_format": "array_record",
        "prepared": True,
    }
    assert str(tmp_path / "mnist") in capsys.readouterr().out


def test_prepare_finds_glue(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", lambda self: None
    )
    prepare.prepare("glue/sst2", str(tmp_path))
    assert f"glue/sst2 is in {tmp_path / 'glue/sst2'}" in capsys.readouterr().out
