"""Data sets on disk that TensorFlow Datasets has prepared, read without TensorFlow."""

import logging
import os
from typing import Any

from experiments.logs import absl_level

Folder = str | os.PathLike | None
"""A folder of TensorFlow Datasets. None: the environment variable TFDS_DATA_DIR, and
where that is not set, TensorFlow Datasets' default."""


class MissingDatasetError(FileNotFoundError):
    """A data set is not in the folder searched. The message says how to prepare it."""


def open_builder(name: str, data_dir: Folder) -> Any:
    """Return TensorFlow Datasets' builder of a data set that is on disk.

    Args:
      name: TensorFlow Datasets' name, with its configuration: "mnist", "glue/sst2".
      data_dir: where to search.

    Raises:
      MissingDatasetError: it is not there.
    """
    import tensorflow_datasets as tfds  # slow to import, and only some runs need it

    folder = data_dir or os.environ.get("TFDS_DATA_DIR")
    # A missing data set is a warning there; here it is the error below.
    with absl_level(logging.ERROR):
        try:
            builder = tfds.builder(name, data_dir=folder)
            prepared = builder.is_prepared()
        except tfds.core.DatasetNotFoundError:  # no code for it here, and no files
            prepared = False
    if not prepared:
        default = os.path.expanduser(tfds.core.constants.DATA_DIR)
        raise MissingDatasetError(_missing_message(name, folder, folder or default))
    return builder


def open_examples(builder: Any, split: str) -> Any:
    """Return a split, such as "train[:100]", as a random-access sequence of examples.

    Each is a dict as in the data set's description, images decoded, text in bytes.
    """
    # "OpenCV is not installed", said once: Pillow decodes as well.
    with absl_level(logging.ERROR):
        examples = builder.as_data_source(split=split)
        examples[0]
    return examples


def _missing_message(name: str, folder: Folder, searched: Folder) -> str:
    """Say where a data set was searched and which commands prepare it there."""
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
