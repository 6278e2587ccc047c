"""Transformers that do regression in context: with linear attention, and with softmax.

Z_0 = [x_1 .. x_n x_{n+1}; y_1 .. y_n 0] is (d + 1) x (n + 1), and a layer of linear
attention is Z + (1/n) P Z M Z^T Q Z, M = diag(1, .., 1, 0); the prediction is minus the
last entry of Z_L (von Oswald et al. 2023; Ahn et al. 2024, arXiv:2310.01082).

params["P"], params["Q"]: of each layer [d, d], the blocks of diag(P, 1) and diag(Q, 0),
as in the published code; or "full", [d + 1, d + 1]. All entries are N(0, 0.05^2) at
first. With an MLP on the covariates, x <- relu(x W + b) W' + b', params["mlp"] has W
[d, num_hidden], b, W' [num_hidden, d] and b', all N(0, 0.1^2) at first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.models.pure import Inputs, Model, Params

_INITIAL_SCALE, _INITIAL_SCALE_OF_MLP = 0.05, 0.1


def linear_transformer(
    dimension: int,
    *,
    num_layers: int = 3,
    matrices: str = "blocks",
    num_hidden: int | None = None,
) -> Model:
    """Return L layers of linear attention; outputs are [N, 1].

    With G = Z M Z^T a layer is Z <- (I + P G Q / n) Z, so that a prompt is followed as
    G, (d + 1) x (d + 1), and its last column alone. The prompts' axis is the last one:
    small matrices side by side, whose products are sums over whole rows of numbers.

    Args:
      dimension: d.
      num_layers: L.
      matrices: "blocks" or "full".
      num_hidden: units of an MLP on the covariates; None: without.

    Raises:
      ValueError: if `matrices` is unknown.
    """

    def apply(params: Params, inputs: Inputs) -> jax.Array:
        if num_hidden is not None:
            inputs = _with_mlp(params["mlp"], inputs)
        columns = jnp.transpose(_columns(inputs), (1, 2, 0))  # [n + 1, d + 1, N]
        pairs, last = columns[:-1], columns[-1]
        context = len(pairs)
        gram = jnp.sum(pairs[:, :, None] * pairs[:, None], axis=0)
        for p, q in zip(*_full(params, dimension), strict=True):
            pgq = jnp.einsum("ijb,jk->ikb", jnp.einsum("ij,jkb->ikb", p, gram), q)
            step = jnp.eye(dimension + 1)[..., None] + pgq / context
            last = jnp.sum(step * last, axis=1)
            half = jnp.sum(step[:, :, None] * gram, axis=1)
            gram = jnp.sum(half[:, None] * step, axis=2)
        return -last[-1][:, None]

    init = _initializer(dimension, num_layers, matrices)
    if num_hidden is None:
        return Model(init, apply)

    def init_both(key: jax.Array) -> Params:
        of_mlp = _initial_mlp(jax.random.fold_in(key, 1), dimension, num_hidden)
        return {**init(key), "mlp": of_mlp}

    return Model(init_both, apply)


def softmax_transformer(
    dimension: int, *, num_layers: int = 3, matrices: str = "blocks"
) -> Model:
    """Return L layers of softmax attention, Z + P Z M softmax(Z^T Q Z), by columns.

    Each column attends to the n pairs, not to the query. Else as `linear_transformer`.
    """

    def apply(params: Params, inputs: Inputs) -> jax.Array:
        z = jnp.swapaxes(_columns(inputs), 1, 2)  # [N, d + 1, n + 1]
        for p, q in zip(*_full(params, dimension), strict=True):
            keys = z[:, :, :-1]
            scores = jnp.einsum("bin,ij,bjm->bnm", keys, q, z)
            weights = jax.nn.softmax(scores, axis=1)
            z = z + jnp.einsum("ij,bjn,bnm->bim", p, keys, weights)
        return -z[:, -1, -1:]

    return Model(_initializer(dimension, num_layers, matrices), apply)


def _initializer(
    dimension: int, num_layers: int, matrices: str
) -> Callable[[jax.Array], Params]:
    sizes = {"blocks": dimension, "full": dimension + 1}
    if matrices not in sizes:
        known = ", ".join(sorted(sizes))
        raise ValueError(f"unknown task.matrices {matrices!r}; known ones: {known}")
    size = sizes[matrices]

    def init(key: jax.Array) -> Params:
        shape = (num_layers, size, size)
        keys = dict(zip("PQ", jax.random.split(key), strict=True))
        return {
            name: _INITIAL_SCALE * jax.random.normal(key, shape)
            for name, key in keys.items()
        }

    return init


def _initial_mlp(key: jax.Array, dimension: int, num_hidden: int) -> Params:
    shapes = {
        "W": (dimension, num_hidden),
        "b": (num_hidden,),
        "W'": (num_hidden, dimension),
        "b'": (dimension,),
    }
    keys = jax.random.split(key, len(shapes))
    return {
        name: _INITIAL_SCALE_OF_MLP * jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def _with_mlp(mlp: Params, inputs: Inputs) -> Inputs:
    """Return prompts with the MLP's outputs for covariates."""

    def of(x: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(x @ mlp["W"] + mlp["b"])
        return hidden @ mlp["W'"] + mlp["b'"]

    return {**inputs, "x": of(inputs["x"]), "query": of(inputs["query"])}


def _columns(inputs: Inputs) -> jax.Array:
    """Return the columns of Z_0, [N, n + 1, d + 1]."""
    x, y, query = inputs["x"], inputs["y"], inputs["query"]
    pairs = jnp.concatenate([x, y[..., None]], axis=-1)
    last = jnp.concatenate([query, jnp.zeros_like(query[:, :1])], axis=-1)
    return jnp.concatenate([pairs, last[:, None]], axis=1)


def _full(params: Params, dimension: int) -> tuple[jax.Array, jax.Array]:
    """Return P and Q of each layer as [L, d + 1, d + 1]."""
    p, q = params["P"], params["Q"]
    if p.shape[-1] > dimension:
        return p, q
    corner = ((0, 0), (0, 1), (0, 1))
    return jnp.pad(p, corner).at[:, -1, -1].set(1), jnp.pad(q, corner)
