"""The networks once more, in NumPy and float64, from their formulas."""

import jax
import numpy as np


def random_like(tree, seed=0):
    """Return numbers in place of a tree's shapes: nowhere an initial zero or one."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, shape.shape).astype(np.float32)
        fan_in = np.prod(shape.shape[:-1], dtype=int) if name == "kernel" else 4
        return rng.normal(0, fan_in**-0.5, shape.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def random_params(model, seed=0):
    """Return what `model.init` does, but with other numbers and nothing compiled."""
    return random_like(jax.eval_shape(model.init, jax.random.key(0)), seed)


def float64(tree):
    if isinstance(tree, dict):
        return {key: float64(value) for key, value in tree.items()}
    return np.asarray(tree, np.float64)


def items(layers):
    return [layers[str(index)] for index in range(len(layers))]


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def linear(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0)


def convolution(images, layer, stride=1):
    """3x3, one pixel of zeros around: out[i, j] = sum_ab in[i+a-1, j+b-1] K[a, b]."""
    _, height, width, _ = images.shape
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    total = sum(
        padded[:, a : a + height, b : b + width] @ layer["kernel"][a, b]
        for a in range(3)
        for b in range(3)
    )
    return (total + layer.get("bias", 0))[:, ::stride, ::stride]


def max_pool(images):
    height, width = (2 * (side // 2) for side in images.shape[1:3])
    images = images[:, :height, :width]
    corners = [images[:, a::2, b::2] for a in (0, 1) for b in (0, 1)]
    return np.maximum.reduce(corners)


def conv_net(params, images, activation):
    hidden = images
    for stage in items(params["stages"]):
        for layer in items(stage):
            hidden = activation(convolution(hidden, layer))
        hidden = max_pool(hidden)
    hidden = hidden.reshape(len(hidden), -1)
    *layers, last = items(params["layers"])
    for layer in layers:
        hidden = activation(linear(hidden, layer))
    return linear(hidden, last)


def resnet(params, state, images, training):
    """Return outputs and the new running statistics (the old ones in evaluation)."""
    new_state = {"blocks": {}}

    def normed(x, layer, running, new, name):
        mean, var = running["mean"], running["var"]
        if training:
            mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            new[name] = {
                "mean": 0.9 * running["mean"] + 0.1 * mean,
                "var": 0.9 * running["var"] + 0.1 * var,
            }
        return (x - mean) / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]

    def norm(x, name, layers, running, new):
        return normed(x, layers[name], running[name], new, name)

    hidden = convolution(images, params["first"])
    hidden = relu(norm(hidden, "first_norm", params, state, new_state))
    for index, block in params["blocks"].items():
        running, new = state["blocks"][index], {}
        stride = 1 if index == "0" else 2
        shortcut = hidden[:, ::stride, ::stride]
        hidden = convolution(hidden, block["first"], stride)
        hidden = relu(norm(hidden, "first_norm", block, running, new))
        hidden = convolution(hidden, block["second"])
        hidden = norm(hidden, "second_norm", block, running, new)
        if stride == 2:
            shortcut = norm(shortcut, "shortcut_norm", block, running, new)
        sum_ = hidden.copy()
        sum_[..., : shortcut.shape[-1]] += shortcut
        hidden = relu(sum_)
        new_state["blocks"][index] = new
    outputs = linear(hidden.mean(axis=(1, 2)), params["last"])
    return outputs, new_state if training else state


def layer_norm(x, layer):
    centered = x - x.mean(axis=-1, keepdims=True)
    var = (centered**2).mean(axis=-1, keepdims=True)
    return centered / np.sqrt(var + 1e-5) * layer["scale"] + layer["bias"]


def attention(x, layers, num_heads, allowed):
    """One sequence [L, d]; `allowed` [L, L]: may the row's query attend to the key?"""
    query, key, value = (
        np.split(linear(x, layers[name]), num_heads, axis=-1)
        for name in ("query", "key", "value")
    )
    heads = []
    for q, k, v in zip(query, key, value, strict=True):
        scores = q @ k.T / np.sqrt(q.shape[-1])
        weights = np.where(allowed, np.exp(scores - scores.max()), 0)
        heads.append(weights / weights.sum(axis=-1, keepdims=True) @ v)
    return linear(np.concatenate(heads, axis=-1), layers["out"])


def feed_forward(x, layers, activation):
    return linear(activation(linear(x, layers["first"])), layers["second"])


def classifier(params, ids, mask, num_heads, pool):
    """One sentence: ids [L], mask [L]."""
    positions, width = np.arange(len(ids)), params["embedding"]["table"].shape[1]
    hidden = params["embedding"]["table"][ids]
    for i in range(width // 2):
        hidden[:, 2 * i] += np.sin(positions / 10000 ** (2 * i / width))
        hidden[:, 2 * i + 1] += np.cos(positions / 10000 ** (2 * i / width))
    allowed = np.broadcast_to(mask.astype(bool), (len(ids), len(ids)))
    for block in items(params["blocks"]):
        attended = attention(hidden, block["attention"], num_heads, allowed)
        hidden = layer_norm(hidden + attended, block["attention_norm"])
        fed = feed_forward(hidden, block["feed_forward"], relu)
        hidden = layer_norm(hidden + fed, block["feed_forward_norm"])
    kept = hidden[mask.astype(bool)] if pool == "tokens" else hidden
    return linear(kept.mean(axis=0), params["last"])


def gpt(params, ids, num_heads):
    """One sequence: ids [L]."""
    hidden = params["embedding"]["table"][ids]
    hidden = hidden + params["positions"]["table"][: len(ids)]
    causal = np.tril(np.ones((len(ids), len(ids)), bool))
    for block in items(params["blocks"]):
        normed = layer_norm(hidden, block["attention_norm"])
        hidden = hidden + attention(normed, block["attention"], num_heads, causal)
        normed = layer_norm(hidden, block["feed_forward_norm"])
        hidden = hidden + feed_forward(normed, block["feed_forward"], gelu)
    return linear(layer_norm(hidden, params["norm"]), params["head"])
