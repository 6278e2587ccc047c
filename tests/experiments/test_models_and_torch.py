"""The networks against PyTorch's own modules: the same numbers, the same inits."""

import jax
import numpy as np
import pytest

from experiments import models

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's are not ours


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Its threads wait busily for each other."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def array(tensor):
    return tensor.detach().numpy()


def linear(layer):
    return {"kernel": array(layer.weight).T, "bias": array(layer.bias)}


def convolution(layer):
    params = {"kernel": array(layer.weight).transpose(2, 3, 1, 0)}
    return params if layer.bias is None else {**params, "bias": array(layer.bias)}


def norm(layer):
    return {"scale": array(layer.weight), "bias": array(layer.bias)}


def encoder_block(layer):
    width = layer.self_attn.embed_dim
    parts = {
        name: {
            "kernel": array(layer.self_attn.in_proj_weight)[rows].T,
            "bias": array(layer.self_attn.in_proj_bias)[rows],
        }
        for name, rows in (
            ("query", slice(0, width)),
            ("key", slice(width, 2 * width)),
            ("value", slice(2 * width, None)),
        )
    }
    return {
        "attention": {**parts, "out": linear(layer.self_attn.out_proj)},
        "attention_norm": norm(layer.norm1),
        "feed_forward": {
            "first": linear(layer.linear1),
            "second": linear(layer.linear2),
        },
        "feed_forward_norm": norm(layer.norm2),
    }


def encoder(width, num_heads, num_hidden):
    layer = torch.nn.TransformerEncoderLayer(
        width, num_heads, num_hidden, dropout=0.0, batch_first=True
    )
    return torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def test_classifier():
    model = models.transformer_classifier(
        2, vocab_size=20, width=16, num_heads=4, num_hidden=24
    )
    embedding, last = torch.nn.Embedding(20, 16), torch.nn.Linear(16, 2)
    blocks = encoder(16, 4, 24)
    for leaf in blocks.parameters():  # tell biases and scales apart
        leaf.data += 0.1 * torch.randn_like(leaf)
    params = {
        "embedding": {"table": array(embedding.weight)},
        "blocks": {str(i): encoder_block(b) for i, b in enumerate(blocks.layers)},
        "last": linear(last),
    }
    expected = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, expected)

    ids = torch.randint(0, 20, (3, 7))
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    angles = torch.arange(7)[:, None] * torch.exp(
        -torch.arange(0, 16, 2) / 16 * np.log(10000.0)
    )
    positions = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
    hidden = blocks(embedding(ids) + positions, src_key_padding_mask=~mask)
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    inputs = {"ids": ids.numpy(), "mask": mask.numpy()}
    outputs = jax.jit(model.apply)(params, inputs)
    np.testing.assert_allclose(outputs, array(last(pooled)), rtol=1e-4, atol=1e-5)


def test_convolutional_network():
    model = models.cnn((8, 8, 3), 5, channels=(4, 6))
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
    )
    last = torch.nn.Linear(6 * 2 * 2, 5)
    # The pixels of a channel lie together there, the channels of a pixel here.
    kernel = linear(last)["kernel"].reshape(6, 2, 2, 5).transpose(1, 2, 0, 3)
    params = {
        "stages": {
            "0": {"0": convolution(layers[0])},
            "1": {"0": convolution(layers[3])},
        },
        "layers": {"0": {"kernel": kernel.reshape(24, 5), "bias": array(last.bias)}},
    }
    images = torch.randn(2, 3, 8, 8)
    expected = last(layers(images).flatten(1))
    outputs = jax.jit(model.apply)(params, images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(outputs, array(expected), rtol=1e-4, atol=1e-5)


def test_batch_norm_at_stride_two():
    """One block that halves the image, in training, and its running statistics."""
    model = models.resnet8(3, 2, channels=(3, 5))
    params, state = jax.jit(model.init)(jax.random.key(0))
    block = {
        "first": torch.nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),
        "first_norm": torch.nn.BatchNorm2d(5),
        "second": torch.nn.Conv2d(5, 5, 3, padding=1, bias=False),
        "second_norm": torch.nn.BatchNorm2d(5),
        "shortcut_norm": torch.nn.BatchNorm2d(3),
    }
    stem = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False)
    stem_norm, last = torch.nn.BatchNorm2d(3), torch.nn.Linear(5, 2)
    params["first"], params["last"] = convolution(stem), linear(last)
    for name, layer in block.items():
        is_norm = isinstance(layer, torch.nn.BatchNorm2d)
        params["blocks"]["1"][name] = norm(layer) if is_norm else convolution(layer)
    images = torch.randn(4, 3, 6, 6)
    # The first block is the identity: its last scale is zero.
    hidden = stem_norm(stem(images)).relu()
    shortcut = block["shortcut_norm"](torch.nn.functional.avg_pool2d(hidden, 1, 2))
    branch = block["first_norm"](block["first"](hidden)).relu()
    branch = block["second_norm"](block["second"](branch))
    joined = branch + torch.cat([shortcut, torch.zeros(4, 2, 3, 3)], 1)
    expected = last(joined.relu().mean((2, 3)))
    inputs = images.permute(0, 2, 3, 1).numpy()
    outputs, new_state = jax.jit(model.apply_training)(params, state, inputs)
    np.testing.assert_allclose(outputs, array(expected), rtol=1e-4, atol=1e-4)
    running = new_state["blocks"]["1"]["first_norm"]
    layer, count = block["first_norm"], 4 * 3 * 3
    np.testing.assert_allclose(
        running["mean"], array(layer.running_mean), rtol=1e-4, atol=1e-5
    )
    # There the running variance is count / (count - 1) times the one averaged here.
    theirs = (array(layer.running_var) - 0.9) * (count - 1) / count
    np.testing.assert_allclose(running["var"] - 0.9, theirs, rtol=1e-3, atol=1e-5)


def same_distribution(ours, theirs):
    """Compare means, variances and fourth moments of two samples of one size."""
    ours, theirs = (np.asarray(sample, np.float64).ravel() for sample in (ours, theirs))
    assert ours.shape == theirs.shape
    if not theirs.any():
        return not ours.any()
    for power in (1, 2, 4):
        a, b = ours**power, theirs**power
        error = np.sqrt((a.var() + b.var()) / a.size)
        if abs(a.mean() - b.mean()) > 5 * error:
            return False
    return True


def test_the_ruler_tells_distributions_apart():
    rng = np.random.default_rng(0)
    uniform, normal = rng.uniform(-1, 1, 4000), rng.normal(0, 3**-0.5, 4000)
    assert same_distribution(uniform, rng.uniform(-1, 1, 4000))
    assert not same_distribution(uniform, normal)
    assert not same_distribution(uniform, 0.9 * rng.uniform(-1, 1, 4000))
    assert not same_distribution(uniform, 0 * uniform)
    assert not same_distribution(0 * uniform, uniform)


def assert_same_distributions(ours, theirs):
    matches = jax.tree.map(same_distribution, ours, theirs)
    assert all(jax.tree.leaves(matches)), matches


def test_initial_distributions_of_the_classifier():
    model = models.transformer_classifier(vocab_size=500)
    params = jax.jit(model.init)(jax.random.key(0))
    blocks = encoder(64, 8, 2048)
    theirs = {
        "embedding": {"table": array(torch.nn.Embedding(500, 64).weight)},
        "blocks": {str(i): encoder_block(b) for i, b in enumerate(blocks.layers)},
        "last": linear(torch.nn.Linear(64, 2)),
    }
    # Two numbers are too few for moments.
    for last in (params["last"], theirs["last"]):
        assert (np.abs(last["bias"]) > 0).all()
        assert (np.abs(last.pop("bias")) <= 1 / 8).all()
    # Constants have no errors of moments.
    for block in (*params["blocks"].values(), *theirs["blocks"].values()):
        for name in ("attention_norm", "feed_forward_norm"):
            assert (block.pop(name)["scale"] == 1).all()
    assert_same_distributions(params, theirs)
    # The copies that our docstring tells of.
    assert torch.equal(blocks.layers[0].linear1.weight, blocks.layers[1].linear1.weight)


def test_initial_distributions_of_the_cnn():
    params = jax.jit(models.cnn().init)(jax.random.key(0))
    theirs = {
        "stages": {
            "0": {"0": convolution(torch.nn.Conv2d(3, 32, 3))},
            "1": {"0": convolution(torch.nn.Conv2d(32, 32, 3))},
        },
        "layers": {"0": linear(torch.nn.Linear(2048, 10))},
    }
    assert_same_distributions(params, theirs)


def test_initial_distributions_of_vgg11():
    params = jax.jit(models.vgg11(width=1 / 8).init)(jax.random.key(0))
    layer = torch.nn.Conv2d(64, 64, 3)
    torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    torch.nn.init.zeros_(layer.bias)
    assert_same_distributions(params["stages"]["4"]["1"], convolution(layer))
    assert_same_distributions(params["layers"]["1"], linear(torch.nn.Linear(64, 64)))
