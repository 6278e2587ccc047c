"""The encoder and the decoder against NumPy, published counts and invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import models
from tests.experiments import numpy_networks

CLASSIFIER = models.transformer_classifier(
    3, vocab_size=11, width=8, num_heads=2, num_hidden=12
)
AVERAGING = models.transformer_classifier(
    3, vocab_size=11, width=8, num_heads=2, num_hidden=12, pool="all"
)
GPT = models.gpt(7, max_length=6, width=8, num_layers=2, num_heads=2)

LENGTHS = (5, 3, 1)


def sentences(length=5, padding=0):
    """Sentences of `LENGTHS` tokens, padded to `length` with the id `padding`."""
    mask = np.arange(length) < np.array(LENGTHS)[:, None]
    ids = np.random.default_rng(0).integers(1, 11, (3, 5))
    ids = np.pad(ids, [(0, 0), (0, length - 5)])
    ids = np.where(mask, ids, padding)
    return {"ids": ids.astype(np.int32), "mask": mask.astype(np.int32)}


@pytest.fixture(scope="module")
def params():
    return numpy_networks.random_params(CLASSIFIER)


@pytest.fixture(scope="module")
def gpt_params():
    return numpy_networks.random_params(GPT)


TRACES = []


@jax.jit
def classify(params, inputs):
    TRACES.append(inputs["ids"].shape)
    return CLASSIFIER.apply(params, inputs)


classify_averaging, logits = map(jax.jit, (AVERAGING.apply, GPT.apply))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (models.transformer_classifier(), 2_515_842),
        (models.gpt(65), 2 * 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 13 * 128) + 256),
        # 4 matrices of attention with biases, 2 layers, 2 norms, in each block.
        (
            models.gpt(5, max_length=3, width=2, num_layers=1, num_heads=1),
            5 * 2 + 3 * 2 + (4 * 6 + (16 + 8) + (16 + 2) + 2 * 4) + 4 + 2 * 5,
        ),
    ],
    ids=["classifier", "gpt", "tiny gpt"],
)
def test_number_of_parameters(model, expected):
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize(
    ("apply", "pool"), [(classify, "tokens"), (classify_averaging, "all")]
)
def test_classifier_is_the_formula(apply, pool, params):
    inputs = sentences()
    weights = numpy_networks.float64(params)
    expected = [
        numpy_networks.classifier(weights, ids, mask, 2, pool)
        for ids, mask in zip(inputs["ids"], inputs["mask"], strict=True)
    ]
    np.testing.assert_allclose(apply(params, inputs), expected, rtol=1e-4, atol=1e-5)


def test_padding_does_not_matter_unless_it_is_pooled(params):
    short, long = sentences(5), sentences(7, padding=4)
    np.testing.assert_allclose(
        classify(params, short),
        classify(params, long),
        rtol=1e-4,
        atol=1e-5,
    )
    change = classify_averaging(params, short) - classify_averaging(params, long)
    assert (jnp.abs(change).max(axis=1) > 1e-2).all()


def test_a_sentence_without_tokens_has_the_mean_zero(params):
    mask = np.zeros((3, 5), np.int32)
    outputs = classify(params, {**sentences(), "mask": mask})
    np.testing.assert_allclose(outputs, [params["last"]["bias"]] * 3, rtol=1e-6)


def test_gpt_is_the_formula(gpt_params):
    ids = np.random.default_rng(0).integers(0, 7, (3, 5)).astype(np.int32)
    weights = numpy_networks.float64(gpt_params)
    expected = [numpy_networks.gpt(weights, sequence, 2) for sequence in ids]
    outputs = logits(gpt_params, ids)
    assert outputs.shape == (3, 5, 7)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_gpt_does_not_see_what_comes_later(gpt_params):
    ids = np.array([[1, 2, 3, 4, 5]], np.int32)
    other = np.array([[1, 2, 3, 6, 5]], np.int32)
    before, after = logits(gpt_params, ids), logits(gpt_params, other)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (jnp.abs(before - after)[:, 3:].max(axis=-1) > 1e-3).all()


def test_pytorch_init():
    model = models.transformer_classifier(vocab_size=2000)
    params = jax.jit(model.init)(jax.random.key(0))
    embedding = params["embedding"]["table"]
    np.testing.assert_allclose(embedding.mean(), 0, atol=0.01)
    np.testing.assert_allclose(embedding.var(), 1, rtol=0.02)
    block = params["blocks"]["0"]
    for name in ("query", "key", "value"):
        layer = block["attention"][name]
        bound = np.sqrt(6 / (64 + 3 * 64))
        assert 0.99 * bound < jnp.abs(layer["kernel"]).max() <= bound
        assert not layer["bias"].any()
    out = block["attention"]["out"]
    assert 0.99 / 8 < jnp.abs(out["kernel"]).max() <= 1 / 8
    assert not out["bias"].any()
    for layer, fan_in in (
        (block["feed_forward"]["first"], 64),
        (block["feed_forward"]["second"], 2048),
        (params["last"], 64),
    ):
        for leaf in layer.values():
            assert jnp.abs(leaf).max() <= fan_in**-0.5
        assert jnp.abs(layer["kernel"]).max() > 0.95 * fan_in**-0.5
        assert layer["bias"].any()
    for name in ("attention_norm", "feed_forward_norm"):
        assert (block[name]["scale"] == 1).all()
        assert not block[name]["bias"].any()
    # Drawn by themselves, unlike torch.nn.TransformerEncoder's copies.
    first, second = (params["blocks"][i]["attention"] for i in "01")
    query = second["query"]["kernel"]
    assert not np.allclose(first["query"]["kernel"], query)
    assert not np.allclose(second["key"]["kernel"], query)


def test_lecun_init():
    model = models.transformer_classifier(vocab_size=2000, num_layers=1, init="lecun")
    params = jax.jit(model.init)(jax.random.key(0))
    np.testing.assert_allclose(params["embedding"]["table"].var(), 1 / 64, rtol=0.02)
    block = params["blocks"]["0"]
    for layer, fan_in in (
        (block["attention"]["query"], 64),
        (block["attention"]["out"], 64),
        (block["feed_forward"]["second"], 2048),
    ):
        np.testing.assert_allclose(layer["kernel"].var(), 1 / fan_in, rtol=0.1)
        assert not layer["bias"].any()


def test_gpt_begins_near_uniform_probabilities():
    model = models.gpt(65, num_layers=1)
    ids = np.random.default_rng(0).integers(0, 65, (2, 16)).astype(np.int32)
    outputs = jax.jit(lambda key: model.apply(model.init(key), ids))(jax.random.key(0))
    # The norm's outputs have variance 1, the head's weights 1/(3 d).
    np.testing.assert_allclose(outputs.var(), 1 / 3, rtol=0.2)


def test_seeds_vmap_and_compile_once():
    inputs = sentences()
    keys = jax.random.split(jax.random.key(3), 2)
    params = jax.jit(jax.vmap(CLASSIFIER.init))(keys)
    together = jax.jit(jax.vmap(CLASSIFIER.apply, (0, None)))(params, inputs)
    TRACES.clear()
    for seed in range(2):
        one = jax.tree.map(lambda x, i=seed: x[i], params)
        np.testing.assert_allclose(
            together[seed], classify(one, inputs), rtol=1e-4, atol=1e-5
        )
    assert len(TRACES) <= 1
    assert not np.allclose(together[0], together[1])


def test_bad_arguments_are_named():
    with pytest.raises(
        ValueError, match="unknown pool 'mean'; known ones: all, tokens"
    ):
        models.transformer_classifier(pool="mean")
    with pytest.raises(ValueError, match="width=64, num_heads=7"):
        models.transformer_classifier(num_heads=7)
    with pytest.raises(ValueError, match="width=128, num_heads=0"):
        models.gpt(5, num_heads=0)
    for make in (models.transformer_classifier, lambda **k: models.gpt(5, **k)):
        with pytest.raises(ValueError, match="unknown init 'he'"):
            make(init="he")
        with pytest.raises(ValueError, match="unknown activation 'swish'"):
            make(activation="swish")


def test_too_long_sequences_are_refused(gpt_params):
    with pytest.raises(ValueError, match=r"max_length = 6 .* shape \(1, 7\)"):
        logits(gpt_params, np.zeros((1, 7), np.int32))
