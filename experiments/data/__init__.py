"""The data sets, by name, as arrays in a fixed order.

A data set is one function, in `images` or `text`, and one entry in `_LOADERS`. What
does not fit in device memory is read by `streaming`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.data import binary, images, mixtures, prompts, streaming, text
from experiments.data.prepared import Folder
from experiments.data.prepared import MissingDatasetError as MissingDatasetError
from experiments.data.splits import Data as Data
from experiments.data.splits import Mixture as Mixture
from experiments.data.splits import Splits as Splits
from experiments.data.streaming import Source as Source

_STANDARDIZED = {"cifar10": True, "fashion_mnist": False, "mnist": False}
"""Images from TensorFlow Datasets, and whether they are standardized unless told."""

_LOADERS: Mapping[str, Callable[..., Splits]] = {
    "digits": images.load_digits,
    "gaussian_mixture": mixtures.load_gaussian_mixture,
    "xor_mixture": mixtures.load_xor_mixture,
    "prompts": prompts.load_prompts,
    "nonlinear_prompts": functools.partial(prompts.load_prompts, nonlinear=True),
    "sst2": text.load_sst2,
    "tiny_shakespeare": text.load_tiny_shakespeare,
    **{
        name: functools.partial(images.load_prepared, name, standardize=standardize)
        for name, standardize in _STANDARDIZED.items()
    },
}
"""From a name to `(num_train, data_dir, **options) -> Splits`."""


def load(
    name: str,
    *,
    num_train: int | None = None,
    data_dir: Folder = None,
    **options: Any,
) -> Splits:
    """Load a data set by name.

    - `"digits"`: scikit-learn's handwritten digits, which come with that package.
      Pixels in [0, 1], inputs [N, 8, 8, 1]; the first 1,500 examples are for
      training and the remaining 297 for testing.
    - `"mnist"`, `"fashion_mnist"`: inputs [N, 28, 28, 1]; 60,000 and 10,000 examples.
      Pixels in [0, 1], or standardized with the option `standardize=True`.
    - `"cifar10"`: inputs [N, 32, 32, 3]; 50,000 and 10,000 examples (or as many as the
      copy on disk has). Pixels standardized, or in [0, 1] with `standardize=False`.
    - `"sst2"`: sentences and whether each is positive; 67,349 examples, and the 872 of
      the validation split for testing, as the test split's labels are not public.
      Options `vocabulary`, `vocabulary_size`: see `text.load_sst2`.
    - `"tiny_shakespeare"`: windows of characters, and for each the character that
      follows; the test examples are from the validation split. Option `context`: see
      `text.load_tiny_shakespeare`.
    - `"gaussian_mixture"`, `"xor_mixture"`: synthetic, inputs [N, d]; options
      `dimension`, `snr`, `num_components`, `means`, `num_test`: see `mixtures`.

    - `"prompts"`, `"nonlinear_prompts"`: synthetic, in-context regression; options
      `dimension`, `context`, `covariates`, `num_test`: see `prompts`.

    Digits and what is synthetic aside, they come from TensorFlow Datasets.
    *Standardized*: see `images.load_prepared`.

    The examples keep the order of their source. That of TensorFlow Datasets is its own
    fixed shuffle, not the order of the original files.

    Args:
      name: one of the names above.
      num_train: how many training examples to keep, the first ones; None: all. The test
        examples are always all there.
      data_dir: the folder of TensorFlow Datasets. None: the environment variable
        TFDS_DATA_DIR, and where that is not set, TensorFlow Datasets' default. Nothing
        is ever downloaded or written there.
      **options: those of the data set.

    Raises:
      ValueError: the name is unknown or an option is not one of the data set's, there
        are fewer than `num_train` examples, or an option's value is impossible.
      MissingDatasetError: the folder does not hold the data set.
    """
    _check_options(name, options)
    return _LOADERS[name](num_train, data_dir, **options)


def load_two_classes(
    name: str,
    classes: Sequence[int],
    *,
    num_train: int | None = None,
    data_dir: Folder = None,
    **options: Any,
) -> Splits:
    """Load two classes of a data set of `load`, as one output: `binary.two_classes`.

    Training examples are those of the two classes among the first 1,000.

    Raises:
      ValueError, MissingDatasetError: as `load`, or if there are too few.
    """
    splits = load(name, num_train=binary.NUM_READ, data_dir=data_dir, **options)
    return binary.two_classes(splits, classes, num_train)


def open_streamed(
    name: str,
    *,
    num_train: int | None = None,
    num_kept: int = 1,
    data_dir: Folder = None,
    **options: Any,
) -> tuple[Source, Splits]:
    """Open a data set of `load` whose training examples are read when needed.

    They are in host memory; images as bytes, which are scaled each time.

    Returns:
      The training examples, and splits with the first `num_kept` >= 1 of them alone.

    Raises:
      ValueError, MissingDatasetError: as `load`.
    """
    _check_options(name, options)
    if name in _STANDARDIZED:
        options = {"standardize": _STANDARDIZED[name], **options}
        return images.open_prepared(name, num_train, num_kept, data_dir, **options)
    splits = _LOADERS[name](num_train, data_dir, **options)
    kept = {key: array[:num_kept] for key, array in splits.train.items()}
    return streaming.from_arrays(splits.train), splits._replace(train=kept)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    if name not in _LOADERS:
        raise ValueError(
            f"unknown data set {name!r}; known ones: {', '.join(sorted(_LOADERS))}"
        )
    signature = inspect.signature(_LOADERS[name])
    known = signature.parameters.keys() - {"num_train", "data_dir"}
    for option in options:
        if option not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{name} has no option {option!r}; known ones: {listed}")
