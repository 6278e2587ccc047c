"""Single products: finite differences, trees with integer leaves, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import networks, zoo
from tests.dominant.networks import KINDS, ROUNDING, problem_in

pytestmark = pytest.mark.usefixtures("strict")

kinds = pytest.mark.parametrize("kind", KINDS)


def random_direction(params, seed=0):
    n = ravel_pytree(params)[0].size
    return zoo.to_tree(np.random.default_rng(seed).standard_normal(n), params)


@pytest.mark.parametrize(
    ("name", "jit"),
    [(name, True) for name in networks.NETWORKS] + [("tanh-softmax", False)],
)
def test_hvp_equals_the_dense_product(name, jit, dtype):
    problem, params, data = problem_in(name, dtype)
    v = random_direction(params)

    def product(params, v, data):
        return dominant.hvp(problem.loss_fn, params, v, data)

    found = (jax.jit(product) if jit else product)(params, v, data)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found))
    hessian = networks.curvatures(name).hessian
    scale = np.linalg.norm(hessian, 2) * np.linalg.norm(zoo.to_vector(v))
    error = np.max(np.abs(zoo.to_vector(found) - hessian @ zoo.to_vector(v)))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * scale


@pytest.mark.parametrize("name", ["tanh-squared", "tanh-softmax"])
@pytest.mark.usefixtures("x64")
def test_hvp_equals_reverse_over_reverse_and_finite_differences(name):
    problem, params, data = problem_in(name, jnp.float64)
    v = random_direction(params)
    product = jax.jit(lambda params, v: dominant.hvp(problem.loss_fn, params, v, data))
    found = zoo.to_vector(product(params, v))
    gradient = jax.jit(jax.grad(problem.loss_fn))

    def slope(params):
        g = gradient(params, data)
        return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, g, v)))

    h = np.cbrt(np.finfo(np.float64).eps)  # balances the h^2 and the eps / h error
    ahead, behind = (
        zoo.to_vector(
            gradient(jax.tree.map(lambda p, d, s=s: p + s * d, params, v), data)
        )
        for s in (h, -h)
    )
    scale = np.linalg.norm(found)
    eps = np.finfo(np.float64).eps
    reverse = zoo.to_vector(jax.jit(jax.grad(slope))(params))
    assert np.linalg.norm(found - reverse) <= ROUNDING * eps * scale
    difference = (ahead - behind) / (2 * h)
    assert np.linalg.norm(found - difference) <= 1000 * h**2 * scale


def test_products_may_be_vmapped_over_parameters(dtype):
    problem, params, data = problem_in("tanh-squared", dtype)
    v = random_direction(params)
    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), params)

    @jax.jit
    def product(params):
        return dominant.hessian(problem.loss_fn)(params, data)(v)

    together = zoo.to_rows(jax.vmap(product)(many))
    for i, row in enumerate(together):
        alone = zoo.to_vector(product(jax.tree.map(lambda p, i=i: p[i], many)))
        error = np.linalg.norm(row - alone)
        assert error <= ROUNDING * jnp.finfo(dtype).eps * np.linalg.norm(alone)


# --- trees with leaves that are not differentiated ---


def with_counter(problem):
    """The same loss on params that carry an integer leaf, first in the tree."""

    def loss_fn(params, data):
        return problem.loss_fn(params["net"], data)

    def predict_fn(params, data):
        return problem.predict_fn(params["net"], data)

    return problem._replace(loss_fn=loss_fn, predict_fn=predict_fn)


@kinds
@pytest.mark.parametrize("batch_size", [None, 2], ids=["whole", "batches"])
def test_integer_leaves_have_no_curvature(kind, batch_size, dtype):
    problem, net, data = problem_in("tanh-squared", dtype)
    params = {"count": jnp.asarray([3, 4, 5], jnp.int32), "net": net}
    curvature = KINDS[kind](with_counter(problem))
    if batch_size is not None:
        curvature = dominant.in_batches(curvature, batch_size)
    v = {"count": None, "net": random_direction(net)}
    found = jax.jit(lambda p, v, d: curvature(p, d)(v))(params, v, data)
    assert found["count"] is None
    references = networks.curvatures("tanh-squared")
    expected = getattr(references, kind) @ zoo.to_vector(v)
    scale = np.linalg.norm(references.hessian, 2) * np.linalg.norm(zoo.to_vector(v))
    error = np.max(np.abs(zoo.to_vector(found) - expected))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * scale


def test_hvp_has_none_at_integer_leaves(dtype):
    problem, net, data = problem_in("tanh-squared", dtype)
    params = {"count": jnp.asarray(3, jnp.int32), "net": net}
    v = {"count": None, "net": random_direction(net)}
    found = dominant.hvp(with_counter(problem).loss_fn, params, v, data)
    assert found["count"] is None
    expected = networks.curvatures("tanh-squared").hessian @ zoo.to_vector(v)
    scale = np.linalg.norm(expected)
    error = np.max(np.abs(zoo.to_vector(found) - expected))
    assert error <= ROUNDING * jnp.finfo(dtype).eps * scale


# --- bad input ---


def apply(curvature, params, data, v):
    return curvature(params, data)(v)


@kinds
def test_vector_of_another_structure_is_refused(kind):
    problem, params, data = problem_in("tanh-squared", jnp.float32)
    with pytest.raises(ValueError, match="extra"):
        apply(KINDS[kind](problem), params, data, {**params, "extra": jnp.ones(2)})


@kinds
def test_vector_with_a_leaf_of_another_shape_is_refused(kind):
    problem, params, data = problem_in("tanh-squared", jnp.float32)
    v = jax.tree.map(lambda p: jnp.ones((*p.shape, 1), p.dtype), params)
    with pytest.raises(ValueError, match=r"kernel|bias|shape"):
        apply(KINDS[kind](problem), params, data, v)


def test_hvp_refuses_a_vector_of_another_structure():
    problem, params, data = problem_in("tanh-squared", jnp.float32)
    with pytest.raises(ValueError, match="layers"):
        dominant.hvp(problem.loss_fn, params, params["layers"], data)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(batch_size):
    problem, params, data = problem_in("tanh-squared", jnp.float32)

    def use():
        curvature = dominant.in_batches(dominant.hessian(problem.loss_fn), batch_size)
        return apply(curvature, params, data, params)

    with pytest.raises(ValueError, match="batch_size"):
        use()
