"""The data sets: images and labels as arrays, in a fixed order.

A data set is one small function here and one entry in `_LOADERS`.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.logs import absl_level

Data = dict[str, np.ndarray]
"""`"inputs"`: [N, ...] float32. `"labels"`: [N] int32."""

_NUM_DIGITS_TRAIN = 1500


class Splits(NamedTuple):
    """The examples to train on, the ones held out, and the number of classes."""

    train: Data
    test: Data
    num_classes: int


class MissingDatasetError(FileNotFoundError):
    """A data set is not in the folder searched. The message says how to prepare it."""


def load(
    name: str,
    *,
    num_train: int | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Splits:
    """Load a data set by name.

    - `"digits"`: scikit-learn's handwritten digits, which come with that package.
      Pixels in [0, 1], inputs [N, 8, 8, 1]; the first 1,500 examples are for
      training and the remaining 297 for testing.
    - `"mnist"`: MNIST from TensorFlow Datasets. Pixels in [0, 1], inputs
      [N, 28, 28, 1]; 60,000 and 10,000 examples.

    The examples keep the order of their source. That of TensorFlow Datasets is its own
    fixed shuffle, not the order of MNIST's original files.

    Args:
      name: one of the names above.
      num_train: how many training examples to keep, the first ones; None: all. The test
        examples are always all there.
      data_dir: the folder of TensorFlow Datasets. None: the environment variable
        TFDS_DATA_DIR, and where that is not set, TensorFlow Datasets' default. Nothing
        is ever downloaded or written there.

    Raises:
      ValueError: `name` is unknown, or there are fewer than `num_train` examples.
      MissingDatasetError: the folder does not hold the data set.
    """
    if name not in _LOADERS:
        raise ValueError(
            f"unknown data set {name!r}; known ones: {', '.join(sorted(_LOADERS))}"
        )
    return _LOADERS[name](num_train, data_dir)


def _load_digits(num_train: int | None, data_dir: str | os.PathLike | None) -> Splits:
    """Handwritten digits of 8 by 8 pixels, each an integer from 0 to 16."""
    del data_dir  # they come with scikit-learn
    from sklearn import datasets  # slow to import

    digits = datasets.load_digits()
    inputs = (digits.images[..., None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int32)
    count = _num_examples("digits", num_train, _NUM_DIGITS_TRAIN)
    return Splits(
        train={"inputs": inputs[:count], "labels": labels[:count]},
        test={
            "inputs": inputs[_NUM_DIGITS_TRAIN:],
            "labels": labels[_NUM_DIGITS_TRAIN:],
        },
        num_classes=10,
    )


def _load_mnist(num_train: int | None, data_dir: str | os.PathLike | None) -> Splits:
    """Handwritten digits of 28 by 28 pixels."""
    builder = _prepared_builder("mnist", data_dir)
    available = builder.info.splits["train"].num_examples
    count = _num_examples("mnist", num_train, available)
    return Splits(
        train=_read_images(builder, f"train[:{count}]"),
        test=_read_images(builder, "test"),
        num_classes=builder.info.features["label"].num_classes,
    )


_LOADERS: dict[str, Callable[[int | None, str | os.PathLike | None], Splits]] = {
    "digits": _load_digits,
    "mnist": _load_mnist,
}


def _num_examples(name: str, requested: int | None, available: int) -> int:
    """Return how many training examples to keep, refusing more than there are."""
    if requested is None:
        return available
    if not 0 < requested <= available:
        raise ValueError(
            f"{name} has 1 to {available} training examples; got num_train={requested}"
        )
    return requested


def _prepared_builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    """Return TensorFlow Datasets' builder of a data set that is on disk."""
    import tensorflow_datasets as tfds  # slow to import, and only some runs need it

    folder = data_dir or os.environ.get("TFDS_DATA_DIR")
    # A missing data set is a warning there; here it is the error below.
    with absl_level(logging.ERROR):
        builder = tfds.builder(name, data_dir=folder)
        prepared = builder.is_prepared()
    if not prepared:
        raise MissingDatasetError(_missing_message(name, builder, folder))
    return builder


def _missing_message(name: str, builder: Any, folder: str | os.PathLike | None) -> str:
    """Say where a data set was searched and which commands prepare it there."""
    searched = Path(builder.data_path).parents[1]
    variable = f"TFDS_DATA_DIR={folder} " if folder else ""
    option = f" --data_dir {folder}" if folder else ""
    return (
        f"data set {name!r} is not in {searched}. To download and prepare it there:\n"
        f"    {variable}make data DATASET={name}\n"
        "or, which is the same,\n"
        "    pip install '.[prepare]'\n"
        f"    python -m experiments.prepare {name}{option}\n"
        "If it lies in another folder, set TFDS_DATA_DIR to that folder."
    )


def _read_images(builder: Any, split: str) -> Data:
    """Decode one split into arrays, pixels scaled from 0..255 to [0, 1]."""
    # "OpenCV is not installed": Pillow decodes as well.
    with absl_level(logging.ERROR):
        source = builder.as_data_source(split=split)
        examples = source.__getitems__(range(len(source)))
    images = np.stack([example["image"] for example in examples])
    labels = np.array([example["label"] for example in examples], dtype=np.int32)
    return {"inputs": images.astype(np.float32) / 255, "labels": labels}
