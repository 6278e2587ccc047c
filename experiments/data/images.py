"""Images and their labels."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.data import statistics, streaming
from experiments.data.prepared import Folder, open_builder, open_examples
from experiments.data.splits import Data, Splits, num_examples
from experiments.data.statistics import PixelStatistics
from experiments.data.streaming import Source

_NUM_DIGITS_TRAIN = 1500
# Examples decoded at a time: what bounds memory.
_CHUNK_SIZE = 1000


def load_digits(num_train: int | None, data_dir: Folder) -> Splits:
    """Handwritten digits of 8 by 8 pixels, each an integer from 0 to 16."""
    del data_dir  # they come with scikit-learn
    from sklearn import datasets  # slow to import

    digits = datasets.load_digits()
    inputs = (digits.images[..., None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int32)
    count = num_examples("digits", num_train, _NUM_DIGITS_TRAIN)
    return Splits(
        train={"inputs": inputs[:count], "labels": labels[:count]},
        test={
            "inputs": inputs[_NUM_DIGITS_TRAIN:],
            "labels": labels[_NUM_DIGITS_TRAIN:],
        },
        num_classes=10,
    )


def load_prepared(
    name: str, num_train: int | None, data_dir: Folder, *, standardize: bool
) -> Splits:
    """Load labelled images that TensorFlow Datasets has prepared.

    Standardized pixels are (x / 255 - mean) / std, with the mean and the population
    standard deviation of that pixel and channel over the *whole* training split,
    whatever `num_train` is; a pixel that is the same in all training images is only
    shifted. Note that a pixel which is rarely set has a tiny standard deviation, so
    that standardized MNIST has some entries of more than a hundred.

    Args:
      name: TensorFlow Datasets' name.
      num_train: how many training examples to keep; None: all.
      data_dir: the folder of TensorFlow Datasets.
      standardize: whether to standardize the pixels, else they are x / 255. The first
        time, that reads the whole training split; see `statistics.cached`.

    Raises:
      ValueError: there are fewer than `num_train` training examples.
      MissingDatasetError: the folder does not hold the data set.
    """
    source, splits = open_prepared(
        name, num_train, 1, data_dir, standardize=standardize
    )
    return splits._replace(train=_read(source))


def open_prepared(
    name: str,
    num_train: int | None,
    num_kept: int,
    data_dir: Folder,
    *,
    standardize: bool,
) -> tuple[Source, Splits]:
    """Return the training images of `load_prepared`, scaled when they are needed.

    They wait in host memory as bytes: decoding all of them takes as long as dozens of
    passes. The splits come with the first `num_kept` of them, and all of the test set.
    """
    builder = open_builder(name, data_dir)
    available = builder.info.splits["train"].num_examples
    count = num_examples(name, num_train, available)
    pixels = _statistics(builder) if standardize else None
    in_memory = streaming.from_arrays(_read(_in_bytes(builder, f"train[:{count}]")))
    source = _scaled(in_memory, pixels)
    splits = Splits(
        train=source.read(np.arange(min(num_kept, count))),
        test=_read(_scaled(_in_bytes(builder, "test"), pixels)),
        num_classes=builder.info.features["label"].num_classes,
    )
    return source, splits


def open_source(
    name: str, split: str, *, standardize: bool, data_dir: Folder = None
) -> Source:
    """Return the images of a split, read from disk as they are needed.

    They are those of `load_prepared`, which see.

    Args:
      name: TensorFlow Datasets' name.
      split: in the notation of TensorFlow Datasets: "train", "test", "train[:100]".
      standardize: whether to standardize the pixels.
      data_dir: the folder of TensorFlow Datasets.

    Raises:
      MissingDatasetError: the folder does not hold the data set.
    """
    builder = open_builder(name, data_dir)
    pixels = _statistics(builder) if standardize else None
    return _scaled(_in_bytes(builder, split), pixels)


def _in_bytes(builder: Any, split: str) -> Source:
    """Return a split on disk with its pixels as they are, uint8."""

    def collate(examples: Sequence[Mapping[str, Any]]) -> Data:
        labels = [example["label"] for example in examples]
        return {
            "inputs": np.stack([example["image"] for example in examples]),
            "labels": np.array(labels, dtype=np.int32),
        }

    return streaming.from_examples(open_examples(builder, split), collate)


def _scaled(source: Source, pixels: PixelStatistics | None) -> Source:
    """Return a source of bytes with its pixels in [0, 1], or standardized."""

    def read(indices: np.ndarray) -> Data:
        data = source.read(indices)
        if pixels is None:
            inputs = data["inputs"].astype(np.float32) / 255
        else:
            inputs = statistics.standardize(data["inputs"], pixels)
        return {**data, "inputs": inputs}

    return source._replace(read=read)


def _read(source: Source) -> Data:
    """Read a whole source, with room for the result and a few chunks."""
    chunks = streaming.chunks(source, _CHUNK_SIZE)
    first = next(chunks)
    data = {
        key: np.empty((source.num_examples, *array.shape[1:]), array.dtype)
        for key, array in first.items()
    }
    start = 0
    for chunk in itertools.chain([first], chunks):
        stop = start + len(chunk["labels"])
        for key, array in chunk.items():
            data[key][start:stop] = array
        start = stop
    return data


def _statistics(builder: Any) -> PixelStatistics:
    """Return the statistics of the whole training split."""
    count = builder.info.splits["train"].num_examples

    def compute() -> PixelStatistics:
        chunks = streaming.chunks(_in_bytes(builder, "train"), _CHUNK_SIZE)
        return statistics.of_images(chunk["inputs"] for chunk in chunks)

    return statistics.cached(f"{builder.name}-{builder.version}-train{count}", compute)
