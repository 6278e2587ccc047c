"""Text as ids against splits written by hand and a WordPiece of a few lines."""

import re
import unicodedata

import numpy as np
import pytest

from experiments import data
from experiments.data import text, wordpiece

SMALL = (*wordpiece.SPECIAL_TOKENS, "a", "dog", "##s", "bark", ",", "!", "##ed")


@pytest.fixture(scope="module")
def bert_file(tfds_data_dir):
    path = tfds_data_dir.parent / "bert_uncased_vocab.txt"
    if not path.exists():
        pytest.skip("needs bert_uncased_vocab.txt beside TFDS_DATA_DIR")
    return path


def ids_of(tokens, vocabulary):
    return [vocabulary.index(token) for token in tokens.split()]


def greedy(word, known):
    """Longest match first, or unknown as a whole."""
    pieces = []
    while word:
        prefix = "##" if pieces else ""
        lengths = [n for n in range(1, len(word) + 1) if prefix + word[:n] in known]
        if not lengths:
            return ["[UNK]"]
        pieces.append(prefix + word[: max(lengths)])
        word = word[max(lengths) :]
    return pieces


def words(sentence):
    """Lower case without accents, punctuation on its own."""
    plain = unicodedata.normalize("NFD", sentence.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return re.findall(r"[^\W_]+|[^\w\s]|_", plain)


def test_sentences_are_padded_to_the_longest_for_training():
    train, test = wordpiece.encode(
        SMALL, ["A dog!", "Dogs barked"], ["a dog, dogs, a dog barked!", "", "CAT dog"]
    )
    assert train["inputs"].dtype == np.int32
    assert train["mask"].dtype == np.float32
    expected = [
        ids_of("[CLS] a dog ! [SEP] [PAD]", SMALL),
        ids_of("[CLS] dog ##s bark ##ed [SEP]", SMALL),
    ]
    np.testing.assert_array_equal(train["inputs"], expected)
    np.testing.assert_array_equal(train["mask"], [[1, 1, 1, 1, 1, 0], [1] * 6])
    expected = [
        ids_of("[CLS] a dog , dog [SEP]", SMALL),
        ids_of("[CLS] [SEP] [PAD] [PAD] [PAD] [PAD]", SMALL),
        ids_of("[CLS] [UNK] dog [SEP] [PAD] [PAD]", SMALL),
    ]
    np.testing.assert_array_equal(test["inputs"], expected)
    np.testing.assert_array_equal(test["mask"].sum(axis=1), [6, 2, 4])


def test_training_merges_the_most_frequent_pairs():
    """By hand: ##u ##g 20 times, ##u ##n 16, h ##ug 15, p ##un 12."""
    counts = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
    sentences = [word for word, count in counts.items() for _ in range(count)]
    found = wordpiece.train_vocabulary(sentences, 19)
    characters = (*"bghnpsu", "##g", "##n", "##s", "##u")
    merges = ("##ug", "##un", "hug", "pun")
    assert found == (*wordpiece.SPECIAL_TOKENS, *characters, *merges)


def test_training_is_deterministic():
    """Ties between pairs: the library alone settles them by chance."""
    sentences = ["Wel come to the Tok en izers libr ary.", "Abc cab bca, acb!"]
    found = {wordpiece.train_vocabulary(sentences * 2, 60) for _ in range(30)}
    assert len(found) == 1


def test_a_trained_vocabulary_knows_its_sentences():
    sentences = ["The café's  door", "(it was opened)", "door, doors; opened door"]
    vocabulary = wordpiece.train_vocabulary(sentences, 80)
    train, _ = wordpiece.encode(vocabulary, sentences, sentences)
    for sentence, ids in zip(sentences, train["inputs"], strict=True):
        pieces = [vocabulary[i] for i in ids if vocabulary[i] != "[PAD]"]
        expected = [
            piece for word in words(sentence) for piece in greedy(word, vocabulary)
        ]
        assert pieces == ["[CLS]", *expected, "[SEP]"]
        assert "[UNK]" not in pieces


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"at least 9, .* got 8"):
        wordpiece.train_vocabulary(["abc"], 8)


def test_vocabulary_files_are_checked(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt'.*one WordPiece token a"):
        wordpiece.read_vocabulary(path)
    path.write_text("\n".join(SMALL) + "\n")
    assert wordpiece.read_vocabulary(path) == SMALL
    path.write_text("[PAD]\n[UNK]\n[CLS]\na\n")
    with pytest.raises(ValueError, match=r"lacks \[SEP\]; needed are \[PAD\], "):
        wordpiece.read_vocabulary(path)
    path.write_text("\n".join([*SMALL, "dog", "cat"]))
    with pytest.raises(ValueError, match="a token twice"):
        wordpiece.read_vocabulary(path)


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        # The example of BERT's README, and of its tokenizer's docstring.
        ("John Johanson 's house", "john johan ##son ' s house"),
        ("unaffable", "una ##ffa ##ble"),
        ("Embeddings, CAFÉ-noir!", "em ##bed ##ding ##s , cafe - noir !"),
        (
            "hide new secretions from the parental units",
            "hide new secret ##ions from the parental units",
        ),
    ],
)
def test_known_sentences_in_berts_vocabulary(bert_file, sentence, tokens):
    lines = bert_file.read_text(encoding="utf-8").split("\n")
    vocabulary = wordpiece.read_vocabulary(bert_file)
    train, _ = wordpiece.encode(vocabulary, [sentence], [])
    expected = ids_of(f"[CLS] {tokens} [SEP]", lines)
    np.testing.assert_array_equal(train["inputs"], [expected])


def test_sst2_in_berts_vocabulary(tfds_data_dir, bert_file):
    splits = data.load(
        "sst2", num_train=100, data_dir=tfds_data_dir, vocabulary=bert_file
    )
    assert splits.vocabulary_size == 30_522
    assert splits.num_classes == 2
    assert splits.vocabulary[101] == "[CLS]"  # as in BERT's configuration
    assert splits.vocabulary[102] == "[SEP]"
    known = set(splits.vocabulary)
    source = text.open_builder("glue/sst2", tfds_data_dir).as_data_source()
    length = splits.train["mask"].shape[1]
    for name, found in (("train", splits.train), ("validation", splits.test)):
        for i in range(0, len(found["labels"]), 3):
            example = source[name][i]
            sentence = example["sentence"].decode()
            pieces = [p for word in words(sentence) for p in greedy(word, known)]
            pieces = ["[CLS]", *pieces[: length - 2], "[SEP]"]
            ids, mask = found["inputs"][i], found["mask"][i]
            count = int(mask.sum())
            assert [splits.vocabulary[j] for j in ids[:count]] == pieces
            np.testing.assert_array_equal(mask, np.arange(length) < count)
            assert not ids[count:].any()  # BERT's padding is token 0
            assert found["labels"][i] == example["label"]
    longest = splits.train["mask"].sum(axis=1).max()
    assert longest == length
    assert splits.train["inputs"].shape == (100, length)
    assert np.bincount(splits.test["labels"]).tolist() == [428, 444]
    for split in splits[:2]:
        assert split["inputs"].dtype == split["labels"].dtype == np.int32


def test_sst2_with_a_vocabulary_of_its_own(tfds_data_dir):
    splits = data.load(
        "sst2", num_train=50, data_dir=tfds_data_dir, vocabulary_size=200
    )
    assert splits.vocabulary_size == 200
    assert splits.train["inputs"].max() < 200
    assert splits.vocabulary.index("[UNK]") not in splits.train["inputs"]


def test_sst2_takes_one_vocabulary(tmp_path):
    with pytest.raises(ValueError, match="not both"):
        data.load("sst2", vocabulary=tmp_path, vocabulary_size=100)


def test_windows_do_not_overlap():
    found = text._windows("abcdefgh", "abcdefgh", 3)
    np.testing.assert_array_equal(found["inputs"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["labels"], [[1, 2, 3], [4, 5, 6]])
    # The last character is needed as a label.
    assert len(text._windows("abcdef", "abcdef", 3)["labels"]) == 1


def test_tiny_shakespeare(tfds_data_dir):
    splits = data.load("tiny_shakespeare", data_dir=tfds_data_dir)
    # 65 characters and a training text of 1,003,854, as published with nanoGPT, whose
    # ids these are.
    assert splits.vocabulary_size == splits.num_classes == 65
    assert splits.train["inputs"].shape == (1_003_853 // 64, 64)
    assert splits.test["inputs"].shape == (55_769 // 64, 64)
    first = [18, 47, 56, 57, 58, 1, 15, 47, 58, 47, 64, 43, 52]
    assert splits.train["inputs"][0, :13].tolist() == first
    opening = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:"
    found = "".join(splits.vocabulary[i] for i in splits.train["inputs"].flat[:66])
    assert found == opening[:66]
    for split in splits[:2]:
        assert split["inputs"].dtype == split["labels"].dtype == np.int32
        np.testing.assert_array_equal(
            split["inputs"].ravel()[1:], split["labels"].ravel()[:-1]
        )


def test_few_windows_of_another_length(tfds_data_dir):
    splits = data.load(
        "tiny_shakespeare", num_train=3, data_dir=tfds_data_dir, context=10
    )
    assert splits.train["inputs"].shape == (3, 10)
    assert splits.test["labels"].shape == (5576, 10)
    assert splits.vocabulary_size == 65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 15_686}, "1 to 15685 training examples; got num_train=15686"),
        ({"context": 0}, "between 1 and 1003853, .* got 0"),
        ({"context": 60_000}, "between 1 and 55769, .* got 60000"),
    ],
)
def test_impossible_windows_are_refused(tfds_data_dir, options, message):
    with pytest.raises(ValueError, match=message):
        data.load("tiny_shakespeare", data_dir=tfds_data_dir, **options)
