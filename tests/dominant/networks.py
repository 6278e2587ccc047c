"""Small networks, each with dense float64 references of its curvatures."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import zoo


class Network(NamedTuple):
    """A model, its loss and its data; `params` and `data` are float64 NumPy trees."""

    loss_fn: Callable[[Any, Any], jax.Array]
    predict_fn: Callable[[Any, Any], jax.Array]
    output_loss_fn: Callable[[jax.Array, Any], jax.Array]
    params: Any
    data: Any
    output_gradient: Callable[[np.ndarray, np.ndarray], np.ndarray]  # [C], [C] -> [C]
    output_hessian: Callable[[np.ndarray, np.ndarray], np.ndarray]  # -> [C, C]


def _layers(sizes: tuple[int, ...], seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "kernel": rng.standard_normal((a, b)) / np.sqrt(a),
            "bias": 0.3 * rng.standard_normal(b),
        }
        for a, b in itertools.pairwise(sizes)
    ]


def _data(num_examples: int, inputs: int, outputs: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    labels = rng.integers(outputs, size=num_examples)
    return {
        "inputs": rng.standard_normal((num_examples, inputs)),
        "targets": np.eye(outputs)[labels],
    }


def _mlp(activation: Callable[[jax.Array], jax.Array], params: Any, data: Any) -> Any:
    hidden = data["inputs"]
    for i, layer in enumerate(params["layers"]):
        if i:
            hidden = activation(hidden)
        product = jnp.matmul(hidden, layer["kernel"], precision="highest")
        hidden = product + layer["bias"]
    return hidden


def _squared_loss(outputs: jax.Array, data: Any) -> jax.Array:
    return jnp.mean(jnp.sum(jnp.square(outputs - data["targets"]), axis=-1)) / 2


def _cross_entropy(outputs: jax.Array, data: Any) -> jax.Array:
    return -jnp.mean(jnp.sum(data["targets"] * jax.nn.log_softmax(outputs), axis=-1))


def _softmax(f: np.ndarray) -> np.ndarray:
    weights = np.exp(f - np.max(f))
    return weights / np.sum(weights)


def network(kind: str, num_examples: int = 7) -> Network:
    """One of `NETWORKS`, on its own random data set."""
    sizes, activation, loss = {
        "tanh-squared": ((3, 4, 2), jnp.tanh, "squared"),
        "tanh-softmax": ((3, 4, 3), jnp.tanh, "softmax"),
        "relu-squared": ((3, 5, 4, 2), jax.nn.relu, "squared"),
        "relu-softmax": ((3, 5, 4, 3), jax.nn.relu, "softmax"),
        "softmax-regression": ((5, 3), jnp.tanh, "softmax"),
        "linear-regression": ((5, 2), jnp.tanh, "squared"),
    }[kind]
    seed = NETWORKS.index(kind)
    if loss == "squared":
        pieces = (lambda f, y: f - y, lambda f, _: np.eye(len(f)))
    else:
        pieces = (
            lambda f, y: _softmax(f) - y,
            lambda f, _: np.diag(_softmax(f)) - np.outer(_softmax(f), _softmax(f)),
        )
    predict_fn = functools.partial(_mlp, activation)
    output_loss_fn = _squared_loss if loss == "squared" else _cross_entropy
    return Network(
        lambda params, data: output_loss_fn(predict_fn(params, data), data),
        predict_fn,
        output_loss_fn,
        {"layers": tuple(_layers(sizes, seed))},
        _data(num_examples, sizes[0], sizes[-1], seed + 100),
        *pieces,
    )


NETWORKS = (
    "tanh-squared",
    "tanh-softmax",
    "relu-squared",
    "relu-softmax",
    "softmax-regression",
    "linear-regression",
)


class Curvatures(NamedTuple):
    """Dense float64 references of one network, each [n, n]."""

    hessian: np.ndarray
    gauss_newton: np.ndarray
    functional_hessian: np.ndarray
    gradient_second_moment: np.ndarray


@functools.cache
def curvatures(kind: str, num_examples: int = 7) -> Curvatures:
    """Dense curvature matrices from explicit Jacobians and `jax.hessian`.

    G and F come from their definitions, with the derivatives of the loss with
    respect to the outputs written by hand.
    """
    problem = network(kind, num_examples)
    with jax.enable_x64(True):
        data = zoo.cast(problem.data, jnp.float64)
        flat, unravel = ravel_pytree(zoo.cast(problem.params, jnp.float64))
        hessian = jax.jit(jax.hessian(lambda p: problem.loss_fn(unravel(p), data)))(
            flat
        )

        def predict(p):
            return problem.predict_fn(unravel(p), data)

        outputs = np.asarray(jax.jit(predict)(flat))  # [N, C]
        jacobian = np.asarray(jax.jit(jax.jacrev(predict))(flat))  # [N, C, n]
        second = np.asarray(jax.jit(jax.hessian(predict))(flat))  # [N, C, n, n]
    pairs = list(zip(outputs, problem.data["targets"], strict=True))
    gradients = np.stack([problem.output_gradient(f, y) for f, y in pairs])
    hessians = np.stack([problem.output_hessian(f, y) for f, y in pairs])
    per_example = np.einsum("ic,icp->ip", gradients, jacobian)
    count = len(outputs)
    return Curvatures(
        np.asarray(hessian),
        np.einsum("icp,icd,idq->pq", jacobian, hessians, jacobian) / count,
        np.einsum("ic,icpq->pq", gradients, second) / count,
        per_example.T @ per_example / count,
    )


ROUNDING = 30  # multiples of eps * norm allowed for a product through a network

# Curvatures by the names of their references in `Curvatures`.
KINDS = {
    "hessian": lambda p, **options: dominant.hessian(p.loss_fn, **options),
    "gauss_newton": lambda p, **options: dominant.gauss_newton(
        p.predict_fn, p.output_loss_fn, **options
    ),
    "functional_hessian": lambda p, **options: dominant.functional_hessian(
        p.predict_fn, p.output_loss_fn, **options
    ),
    "gradient_second_moment": lambda p, **options: dominant.gradient_second_moment(
        p.loss_fn, **options
    ),
}


def problem_in(name, dtype, num_examples=7):
    problem = network(name, num_examples)
    return problem, zoo.cast(problem.params, dtype), zoo.cast(problem.data, dtype)


def assert_matrix(found, expected, dtype, norm=None):
    """Equal, up to rounding relative to `norm`: by default, that of the expected."""
    assert found.shape == expected.shape
    norm = np.linalg.norm(expected, 2) if norm is None else norm
    error = np.max(np.abs(found - expected))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * norm
