"""Standardized images against NumPy, and the cache of their statistics."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import data
from experiments.data import images, statistics
from experiments.data.statistics import PixelStatistics

SHAPE = (4, 3, 2)
PIXELS = PixelStatistics(np.full(SHAPE, 0.5), np.full(SHAPE, 0.25))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dominant"


def no_need():
    pytest.fail("computed what is stored")


@pytest.mark.parametrize("low", [0, 250])
def test_statistics_of_ragged_chunks(low):
    rng = np.random.default_rng(0)
    pixels = rng.integers(low, 256, size=(25, *SHAPE), dtype=np.uint8)
    found = statistics.of_images([pixels[:10], pixels[10:20], pixels[20:]])
    scaled = pixels.astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, scaled.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.std, scaled.std(axis=0), rtol=1e-11)


def test_no_image_has_no_statistics():
    with pytest.raises(ValueError, match="at least one image"):
        statistics.of_images([])


def test_standardized_pixels_have_mean_zero_and_variance_one():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(100, *SHAPE), dtype=np.uint8)
    pixels[:, 0, 0, 0] = 7
    found = statistics.standardize(pixels, statistics.of_images([pixels]))
    assert found.dtype == np.float32
    variance = np.ones(SHAPE)
    variance[0, 0, 0] = 0  # a pixel that never changes becomes 0, not NaN
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.var(axis=0), variance, atol=1e-6)


def test_statistics_are_computed_once(cache):
    first = statistics.cached("images", lambda: PIXELS)
    again = statistics.cached("images", no_need)
    for pixels in (first, again):
        np.testing.assert_array_equal(pixels.mean, PIXELS.mean)
        np.testing.assert_array_equal(pixels.std, PIXELS.std)
    assert [path.name for path in cache.iterdir()] == ["images.npz"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[150] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: np.savez(path, mean=PIXELS.mean),
    ],
    ids=["truncated", "bit", "empty", "text", "no std"],
)
def test_damaged_statistics_are_replaced(cache, damage):
    statistics.cached("images", lambda: PIXELS)
    damage(cache / "images.npz")
    other = PixelStatistics(PIXELS.mean + 1, PIXELS.std)
    found = statistics.cached("images", lambda: other)
    np.testing.assert_array_equal(found.mean, other.mean)
    np.testing.assert_array_equal(statistics.cached("images", no_need).mean, other.mean)


def test_without_a_cache_folder_they_are_computed(cache):
    cache.write_text("in the way")
    calls = []

    def compute():
        calls.append(1)
        return PIXELS

    for _ in range(2):
        np.testing.assert_array_equal(
            statistics.cached("images", compute).std, PIXELS.std
        )
    assert len(calls) == 2
    assert cache.read_text() == "in the way"


def test_another_process_may_store_them_meanwhile(cache):
    def compute():
        statistics.cached("images", lambda: PIXELS)
        return PIXELS

    statistics.cached("images", compute)
    assert [path.name for path in cache.iterdir()] == ["images.npz"]
    np.testing.assert_array_equal(
        statistics.cached("images", no_need).mean, PIXELS.mean
    )


@pytest.mark.parametrize("base", ["", "relative"])
def test_the_cache_defaults_to_the_home_folder(monkeypatch, tmp_path, base):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    statistics.cached("images", lambda: PIXELS)
    assert (tmp_path / "home/.cache/dominant/images.npz").exists()


def known_statistics(shape):
    rng = np.random.default_rng(1)
    return PixelStatistics(rng.uniform(size=shape), rng.uniform(0.1, 1, size=shape))


def test_cifar10(tfds_data_dir):
    stored = known_statistics((32, 32, 3))
    statistics.cached("cifar10-3.0.2-train50000", lambda: stored)
    splits = data.load("cifar10", num_train=20, data_dir=tfds_data_dir)
    plain = data.load(
        "cifar10", num_train=20, data_dir=tfds_data_dir, standardize=False
    )
    assert splits.num_classes == 10
    assert splits.vocabulary_size == 0
    for split in ("train[:20]", "test"):
        source = tfds.data_source("cifar10", split=split, data_dir=tfds_data_dir)
        found, unscaled = (getattr(s, split.split("[")[0]) for s in (splits, plain))
        assert found["inputs"].shape == (len(source), 32, 32, 3)
        assert found["inputs"].dtype == unscaled["inputs"].dtype == np.float32
        assert found["labels"].dtype == np.int32
        for i in range(0, len(source), 19):
            scaled = source[i]["image"].astype(np.float64) / 255
            expected = (scaled - stored.mean) / stored.std
            np.testing.assert_allclose(found["inputs"][i], expected, atol=1e-5)
            np.testing.assert_allclose(unscaled["inputs"][i], scaled, atol=1e-6)
            assert found["labels"][i] == unscaled["labels"][i] == source[i]["label"]
    # The first example of version 3.0.2 is number 16,399 of the original, a horse.
    assert splits.train["labels"][0] == 7


def test_standardized_mnist(tfds_data_dir):
    stored = known_statistics((28, 28, 1))
    statistics.cached("mnist-3.0.1-train60000", lambda: stored)
    plain = images.open_source(
        "mnist", "train[:9]", standardize=False, data_dir=tfds_data_dir
    )
    found = images.open_source(
        "mnist", "train[:9]", standardize=True, data_dir=tfds_data_dir
    )
    chosen = np.array([8, 0, 3])
    pixels = plain.read(chosen)["inputs"]
    np.testing.assert_allclose(
        found.read(chosen)["inputs"], (pixels - stored.mean) / stored.std, atol=1e-5
    )


@pytest.mark.slow  # decodes 50,000 images
def test_statistics_of_cifar10(tfds_data_dir, cache):
    published = tfds_data_dir.parent / "cifar10_train_stats.npz"
    if not published.exists():
        pytest.skip("needs cifar10_train_stats.npz beside TFDS_DATA_DIR")
    images.open_source("cifar10", "test", standardize=True, data_dir=tfds_data_dir)
    with np.load(published) as expected, np.load(next(cache.iterdir())) as found:
        for name in ("mean", "std"):
            assert found[name].dtype == np.float64
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
