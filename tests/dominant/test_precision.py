"""Curvature products in less than full float32: who computes in what."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo
from tests.dominant.networks import KINDS

kinds = pytest.mark.parametrize("kind", KINDS)
BFLOAT16_ROUNDING = 2.0**-8


@pytest.fixture(scope="module")
def problem():
    return networks.network("tanh-softmax")


def in_float32(problem):
    return zoo.cast(problem.params, jnp.float32), zoo.cast(problem.data, jnp.float32)


def equations(jaxpr):
    """All equations, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def predict_fn(params, data):
    return jnp.tanh(data["inputs"] @ params["hidden"]) @ params["last"]


def output_loss_fn(outputs, data):
    return jnp.mean(jnp.sum((outputs - data["targets"]) ** 2, axis=-1))


PLAIN = networks.Network(
    loss_fn=lambda params, data: output_loss_fn(predict_fn(params, data), data),
    predict_fn=predict_fn,
    output_loss_fn=output_loss_fn,
    params={"hidden": np.ones((3, 4)), "last": np.ones((4, 2))},
    data={"inputs": np.ones((7, 3)), "targets": np.ones((7, 2))},
    output_gradient=None,
    output_hessian=None,
)
"""Unlike the other networks it leaves the precision of its products to its caller."""


def matmul_precisions(curvature):
    params, data = in_float32(PLAIN)

    def product(params, data, v):
        return curvature(params, data)(v)

    jaxpr = jax.make_jaxpr(product)(params, data, params).jaxpr
    # Inner products of vectors, which stay in full precision, are scalars.
    products = [
        e
        for e in equations(jaxpr)
        if e.primitive.name == "dot_general" and e.outvars[0].aval.ndim == 2
    ]
    assert products
    return {p for e in products for p in e.params["precision"]}


@kinds
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, jax.lax.Precision.HIGHEST),
        ({"precision": "tensorfloat32"}, jax.lax.Precision.HIGH),
        ({"precision": "bfloat16"}, jax.lax.Precision.DEFAULT),
    ],
)
def test_every_matrix_product_has_the_precision_asked_for(kind, options, expected):
    # Whatever the user's own default is.
    with jax.default_matmul_precision("bfloat16"):
        found = matmul_precisions(KINDS[kind](PLAIN, **options))
    assert found == {expected}


@kinds
def test_in_dtype_rounds_as_bfloat16_does(kind, problem):
    params, data = in_float32(problem)
    curvature = dominant.in_dtype(KINDS[kind](problem), jnp.bfloat16)

    @jax.jit
    def matvec(v):
        return curvature(params, data)(v)

    product = matvec(params)
    for leaf in jax.tree.leaves(product):
        assert leaf.dtype == jnp.float32
        # Nothing but bfloat16 numbers comes out.
        np.testing.assert_array_equal(leaf, leaf.astype(jnp.bfloat16))
    found = zoo.dense(matvec, params)
    exact = getattr(networks.curvatures("tanh-softmax"), kind)
    scale = np.linalg.norm(networks.curvatures("tanh-softmax").gauss_newton, 2)
    error = np.max(np.abs(found - exact)) / scale
    assert BFLOAT16_ROUNDING / 30 < error < 30 * BFLOAT16_ROUNDING


def test_in_dtype_leaves_integers_alone_and_nests():
    def loss_fn(params, data):
        inputs, labels = data
        assert params["w"].dtype == inputs.dtype == jnp.bfloat16
        assert params["count"].dtype == labels.dtype == jnp.int32
        return jnp.mean((inputs @ params["w"] - labels) ** 2)

    params = {
        "w": jnp.ones(3),
        "b": jnp.ones(2),
        "count": jnp.zeros((), jnp.int32),
    }
    data = (jnp.eye(4, 3), jnp.arange(4, dtype=jnp.int32))
    narrow = dominant.in_dtype(dominant.hessian(loss_fn), jnp.bfloat16)
    only_w = dominant.restrict(
        dominant.in_batches(narrow, 3), lambda path, leaf: leaf.shape == (3,)
    )
    like = dominant.domain(only_w, params)
    assert like["b"] is None
    product = only_w(params, data)({"w": jnp.arange(3.0), "b": None, "count": None})
    # H = 2 X^T X / N = I / 2, exact in bfloat16 even in chunks of 3 and 1.
    np.testing.assert_allclose(product["w"], jnp.arange(3.0) / 2, rtol=1e-2)
    assert product["w"].dtype == jnp.float32


def test_a_solve_on_narrow_products_is_honest_about_these_only(problem):
    """What docs/curvature.md warns of: residuals are those of the rounded products."""
    params, data = in_float32(problem)
    exact = dominant.hessian(problem.loss_fn)(params, data)
    narrow = dominant.in_dtype(dominant.hessian(problem.loss_fn), jnp.bfloat16)(
        params, data
    )
    found = jax.jit(lambda: dominant.top_eigenspace(narrow, params, 2, tol=0.05))()
    dense = zoo.dense(exact, params)
    true = zoo.explicit_residuals(dense, found)
    relative = np.max(true / np.asarray(found.eigenvalues))
    assert relative < 0.05 + 10 * BFLOAT16_ROUNDING
    reference = zoo.reference(dense)
    np.testing.assert_allclose(
        found.eigenvalues, reference.eigenvalues[:2], rtol=0.05 + 10 * BFLOAT16_ROUNDING
    )
