"""Text as sequences of token ids."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.data import wordpiece
from experiments.data.prepared import Folder, open_builder, open_examples
from experiments.data.splits import Data, Splits, num_examples

_CHARACTERS_PER_WINDOW = 64
_TRAINED_VOCABULARY_SIZE = 8000


def load_sst2(
    num_train: int | None,
    data_dir: Folder,
    *,
    vocabulary: str | os.PathLike | None = None,
    vocabulary_size: int | None = None,
) -> Splits:
    """SST-2: sentences from film reviews, labelled 0 (negative) or 1 (positive).

    Sentences are tokenized as for BERT's uncased models, of which DistilBERT is one:
    lower case, accents stripped, split at white space and punctuation, then WordPiece;
    `[CLS]` comes first and `[SEP]` last. All are padded to the longest *training*
    sentence kept; what is longer in the test split is cut, keeping its `[SEP]`.

    Inputs are ids [N, L] int32, the mask is [N, L] float32. The test split is the
    validation split of the source, whose test labels are not public.

    Args:
      num_train: how many training sentences to keep; None: all.
      data_dir: the folder of TensorFlow Datasets.
      vocabulary: a WordPiece vocabulary, a file with one token a line, such as the
        `vocab.txt` of BERT. None: one is trained on the training sentences kept.
      vocabulary_size: of a vocabulary that is trained, at most; None: 8,000.

    Raises:
      ValueError: there are fewer than `num_train` sentences, or both options for the
        vocabulary are given, or the vocabulary lacks a token that is needed.
      FileNotFoundError: there is no such vocabulary file.
      MissingDatasetError: the folder does not hold the data set.
    """
    if vocabulary is not None and vocabulary_size is not None:
        raise ValueError(
            "give `vocabulary`, a file, or `vocabulary_size`, to train one; not both"
        )
    builder = open_builder("glue/sst2", data_dir)
    available = builder.info.splits["train"].num_examples
    count = num_examples("sst2", num_train, available)
    train, train_labels = _sentences(builder, f"train[:{count}]")
    test, test_labels = _sentences(builder, "validation")
    if vocabulary is None:
        if vocabulary_size is None:
            vocabulary_size = _TRAINED_VOCABULARY_SIZE
        tokens = wordpiece.train_vocabulary(train, vocabulary_size)
    else:
        tokens = wordpiece.read_vocabulary(vocabulary)
    train_ids, test_ids = wordpiece.encode(tokens, train, test)
    return Splits(
        train={**train_ids, "labels": train_labels},
        test={**test_ids, "labels": test_labels},
        num_classes=builder.info.features["label"].num_classes,
        vocabulary=tokens,
    )


def load_tiny_shakespeare(
    num_train: int | None, data_dir: Folder, *, context: int = _CHARACTERS_PER_WINDOW
) -> Splits:
    """Tiny Shakespeare: characters, and for each the one that follows.

    An id is a character's place in the sorted vocabulary of the whole training text,
    however few windows are kept. Window i has the characters iL .. iL + L - 1 as inputs
    and iL + 1 .. iL + L as labels, both [N, L] int32; what is left over at the end of
    the text is skipped. The test windows are those of the validation split.

    Args:
      num_train: how many training windows to keep, the first ones; None: all.
      data_dir: the folder of TensorFlow Datasets.
      context: L, characters a window.

    Raises:
      ValueError: there are fewer than `num_train` windows, a text is too short for one,
        or the validation text has a character that the training text has not.
      MissingDatasetError: the folder does not hold the data set.
    """
    builder = open_builder("tiny_shakespeare", data_dir)
    train, test = _text(builder, "train"), _text(builder, "validation")
    vocabulary = tuple(sorted(set(train)))
    unknown = sorted(set(test) - set(vocabulary))
    if unknown:
        raise ValueError(f"characters in the validation text only: {unknown}")
    train_windows = _windows(train, vocabulary, context)
    available = len(train_windows["labels"])
    count = num_examples("tiny_shakespeare", num_train, available)
    return Splits(
        train={key: array[:count] for key, array in train_windows.items()},
        test=_windows(test, vocabulary, context),
        num_classes=len(vocabulary),
        vocabulary=vocabulary,
    )


def _sentences(builder: Any, split: str) -> tuple[list[str], np.ndarray]:
    """Return the sentences of a split, and their labels [N] int32."""
    source = open_examples(builder, split)
    examples = source.__getitems__(range(len(source)))
    sentences = [example["sentence"].decode("utf-8").strip() for example in examples]
    labels = np.array([example["label"] for example in examples], dtype=np.int32)
    return sentences, labels


def _text(builder: Any, split: str) -> str:
    """Return a split that is one text."""
    return open_examples(builder, split)[0]["text"].decode("utf-8")


def _windows(text: str, vocabulary: Sequence[str], context: int) -> Data:
    """Cut a text into windows of `context` characters that do not overlap."""
    if not 0 < context < len(text):
        raise ValueError(
            f"context must be between 1 and {len(text) - 1}, one less than the "
            f"characters of the text; got {context}"
        )
    ids_by_character = {character: i for i, character in enumerate(vocabulary)}
    ids = np.array([ids_by_character[character] for character in text], np.int32)
    stop = (len(ids) - 1) // context * context
    return {
        "inputs": ids[:stop].reshape(-1, context),
        "labels": ids[1 : stop + 1].reshape(-1, context),
    }
