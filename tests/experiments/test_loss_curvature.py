"""H = G + F of a tiny network under each loss, all three against dense formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from experiments import losses

NUM_CLASSES = 3
RNG = np.random.default_rng(0)
PARAMS = {"v": RNG.normal(size=(2, NUM_CLASSES)), "w": 2 * RNG.normal(size=(3, 2))}
SHAPES = {"examples": (5, 3), "sequences": (3, 2, 3)}


def predict_fn(params, data):
    return jnp.tanh(data["inputs"] @ params["w"]) @ params["v"]


def derivatives(name, outputs, targets):
    """Gradient [M, C] and Hessian [M, C, C] of each term of the loss, by hand."""
    identity = np.eye(NUM_CLASSES)
    if name == "half_squared_error":
        return outputs - targets, np.tile(identity, (len(outputs), 1, 1))
    if name == "squared_error":
        return 2 * (outputs - targets), np.tile(2 * identity, (len(outputs), 1, 1))
    if name == "sqrt":
        roots = np.sqrt(1 + (outputs - targets) ** 2)
        return (outputs - targets) / roots, roots[:, :, None] ** -3 * identity
    if name == "log_cosh":
        slopes = np.tanh(outputs - targets)
        return slopes, (1 - slopes**2)[:, :, None] * identity
    assert name == "cross_entropy"
    weights = np.exp(outputs)
    p = weights / weights.sum(axis=1, keepdims=True)
    return p - targets, p[:, :, None] * identity - p[:, :, None] * p[:, None, :]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(losses.OUTPUT_LOSSES))
def test_products_with_the_hessian_and_its_two_parts(name, shape):
    output_loss_fn = losses.OUTPUT_LOSSES[name]
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)  # the same examples for every loss
        labels = rng.integers(NUM_CLASSES, size=SHAPES[shape][:-1])
        data = {"inputs": rng.normal(size=SHAPES[shape]), "labels": labels}
        params = jax.tree.map(jnp.asarray, PARAMS)
        theta, unravel = ravel_pytree(params)

        def outputs_of(theta, data):
            return predict_fn(unravel(theta), data).reshape(-1, NUM_CLASSES)

        def loss_fn(params, data):
            return output_loss_fn(predict_fn(params, data), data)

        curvatures = {
            "H": dominant.hessian(loss_fn),
            "G": dominant.gauss_newton(predict_fn, output_loss_fn),
            "F": dominant.functional_hessian(predict_fn, output_loss_fn),
        }

        @jax.jit
        def evaluate(theta, data):
            def matrix(curvature):
                matvec = curvature(unravel(theta), data)
                columns = jax.vmap(lambda v: ravel_pytree(matvec(unravel(v)))[0])
                return columns(jnp.eye(theta.size))

            return (
                outputs_of(theta, data),
                jax.jacfwd(outputs_of)(theta, data),
                jax.hessian(outputs_of)(theta, data),
                {symbol: matrix(curvatures[symbol]) for symbol in curvatures},
            )

        outputs, jacobian, second, products = jax.device_get(evaluate(theta, data))
    targets = np.eye(NUM_CLASSES)[labels.ravel()]
    slopes, curvature = derivatives(name, outputs, targets)
    num_terms = len(outputs)
    g = np.einsum("mcp,mcd,mdq->pq", jacobian, curvature, jacobian) / num_terms
    f = np.einsum("mc,mcpq->pq", slopes, second) / num_terms
    for symbol, expected in {"G": g, "F": f, "H": g + f}.items():
        np.testing.assert_allclose(products[symbol], expected, atol=1e-12)
    assert min(np.linalg.norm(g), np.linalg.norm(f)) > 0.05 * np.linalg.norm(g + f)
