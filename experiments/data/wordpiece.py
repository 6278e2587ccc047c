"""WordPiece as in BERT's uncased models: vocabularies, and sentences as ids.

A vocabulary is a tuple of tokens, a token's id its place. A token that continues a word
starts with "##".
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import BertWordPieceTokenizer, Encoding, models

from experiments.data.splits import Data

Vocabulary = tuple[str, ...]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Padding, for what cannot be split into known tokens, start and end of a sentence."""

_CONTINUES = "##"


def read_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """Read a vocabulary file, which has one token a line.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it lacks one of SPECIAL_TOKENS, or has a token twice.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no vocabulary file {os.fspath(path)!r}. It has one WordPiece token a "
            "line, like the vocab.txt that comes with BERT (uncased). Without a file, "
            "a vocabulary is trained on the data"
        )
    ids = models.WordPiece.read_file(os.fspath(path))
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise ValueError(
            f"vocabulary file {os.fspath(path)!r} lacks {', '.join(missing)}; "
            f"needed are {', '.join(SPECIAL_TOKENS)}"
        )
    if max(ids.values()) != len(ids) - 1:
        raise ValueError(f"vocabulary file {os.fspath(path)!r} has a token twice")
    return _in_order(ids)


def train_vocabulary(sentences: Sequence[str], size: int) -> Vocabulary:
    """Return a vocabulary for some sentences; the same for the same sentences.

    It has SPECIAL_TOKENS, all characters (so that nothing in these sentences is
    unknown), and the pieces that byte-pair merges give, until none occurs twice.

    Args:
      sentences: the text.
      size: how many tokens to have at most.

    Raises:
      ValueError: the characters alone are more than that.
    """
    tokenizer = BertWordPieceTokenizer()
    # The trainer numbers characters in the order in which it meets them in a hash map,
    # another one each time, and settles ties by number: they are given, in order. See
    # https://github.com/huggingface/tokenizers/issues/1794
    given = [*SPECIAL_TOKENS, *_characters(tokenizer, sentences)]
    if size < len(given):
        raise ValueError(
            f"vocabulary_size must be at least {len(given)}, the special tokens and "
            f"the characters alone and within words; got {size}"
        )
    tokenizer.train_from_iterator(
        sentences,
        vocab_size=size,
        limit_alphabet=len(given),
        special_tokens=given,
        show_progress=False,
    )
    return _in_order(tokenizer.get_vocab())


def encode(
    vocabulary: Vocabulary, train: Sequence[str], test: Sequence[str]
) -> tuple[Data, Data]:
    """Return token ids and masks, all as long as the longest training sentence, L.

    Args:
      vocabulary: the tokens, with SPECIAL_TOKENS.
      train: sentences, padded to L.
      test: sentences, padded or cut to L, the `[SEP]` at their end included.

    Returns:
      For each of the two `{"inputs": [N, L] int32, "mask": [N, L] float32}`.
    """
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = BertWordPieceTokenizer(ids)
    padding = {"pad_id": ids["[PAD]"], "pad_token": "[PAD]"}
    tokenizer.enable_padding(**padding)
    train_data = _as_arrays(tokenizer.encode_batch(list(train)))
    length = train_data["inputs"].shape[1]
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(**padding, length=length)
    return train_data, _as_arrays(tokenizer.encode_batch(list(test)))


def _as_arrays(encodings: Sequence[Encoding]) -> Data:
    ids = np.array([encoding.ids for encoding in encodings], np.int32)
    masks = np.array([encoding.attention_mask for encoding in encodings], np.float32)
    return {"inputs": ids, "mask": masks}


def _characters(
    tokenizer: BertWordPieceTokenizer, sentences: Iterable[str]
) -> list[str]:
    """Return the tokens of one character: those of words, then those within words."""
    words = {
        word
        for sentence in sentences
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(
            tokenizer.normalize(sentence)
        )
    }
    characters = {character for word in words for character in word}
    within = {_CONTINUES + character for word in words for character in word[1:]}
    return sorted(characters) + sorted(within)


def _in_order(ids: dict[str, int]) -> Vocabulary:
    return tuple(sorted(ids, key=ids.__getitem__))
