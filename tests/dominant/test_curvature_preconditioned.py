"""P^-1/2 C P^-1/2 against dense matrices, and what its eigenvectors mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo
from tests.dominant.networks import ROUNDING, assert_matrix

pytestmark = pytest.mark.usefixtures("strict")

NETWORK = "tanh-softmax"


def problem_in(dtype):
    problem = networks.network(NETWORK)
    params, data = zoo.cast(problem.params, dtype), zoo.cast(problem.data, dtype)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    p = np.random.default_rng(0).permutation(np.geomspace(1e-2, 1e2, size))
    return problem, params, data, zoo.to_tree(p, params)


ORDERS = {
    "whole": dominant.preconditioned,
    "preconditioned batches": lambda c, p: dominant.preconditioned(
        dominant.in_batches(c, 3), p
    ),
    "batches of preconditioned": lambda c, p: dominant.in_batches(
        dominant.preconditioned(c, p), 3
    ),
}


@pytest.mark.parametrize(
    ("order", "jit"), [*((order, True) for order in ORDERS), ("whole", False)]
)
def test_matrix_is_that_of_the_definition(order, jit, dtype):
    problem, params, data, diagonal = problem_in(dtype)

    def columns(params, data, diagonal, identity):
        curvature = ORDERS[order](dominant.hessian(problem.loss_fn), diagonal)
        return jax.vmap(curvature(params, data))(identity)

    identity = zoo.from_rows(np.eye(zoo.to_vector(params).size), params)
    columns = jax.jit(columns) if jit else columns
    found = zoo.to_rows(columns(params, data, diagonal, identity)).T
    root = np.sqrt(zoo.to_vector(diagonal))
    hessian = networks.curvatures(NETWORK).hessian
    assert_matrix(found, hessian / root[:, None] / root[None, :], dtype)
    # Both scalings happened: the definition differs from one-sided ones.
    assert not np.allclose(found, hessian / root[:, None] ** 2, rtol=0.1)


@pytest.mark.usefixtures("x64")
def test_eigenvalues_are_those_of_the_quotient_and_directions_its_eigenvectors():
    problem, params, data, diagonal = problem_in(jnp.float64)
    curvature = dominant.preconditioned(dominant.hessian(problem.loss_fn), diagonal)
    found = jax.jit(
        lambda params, data: dominant.top_eigenspace(
            curvature(params, data), params, 3, tol=1e-9
        )
    )(params, data)
    p = zoo.to_vector(diagonal)
    quotient = networks.curvatures(NETWORK).hessian / p[:, None]  # not symmetric
    expected = np.sort(np.linalg.eigvals(quotient).real)[::-1]
    np.testing.assert_allclose(found.eigenvalues, expected[:3], rtol=1e-8)
    directions = zoo.to_rows(found.basis) / np.sqrt(p)  # x = P^-1/2 u
    for value, x in zip(expected, directions, strict=False):
        error = np.linalg.norm(quotient @ x - value * x)
        assert error <= 1e-6 * expected[0] * np.linalg.norm(x)


@pytest.mark.usefixtures("x64")
def test_the_edge_of_stability_is_where_the_docstring_says():
    """Preconditioned descent on a quadratic, started in the direction P^-1/2 u."""
    matrix = jnp.asarray(zoo.with_spectrum(np.linspace(0.1, 3, zoo.SMALL), 3))
    p = np.random.default_rng(1).uniform(0.1, 10, zoo.SMALL)
    like = zoo.like(zoo.SMALL)
    diagonal = zoo.to_tree(p, like)

    def loss_fn(params, matrix):
        theta = zoo.flatten(params)
        return theta @ matrix @ theta / 2

    curvature = dominant.preconditioned(dominant.hessian(loss_fn), diagonal)
    top = zoo.reference(zoo.dense(curvature(like, matrix), like))
    x = zoo.to_tree(top.vectors[0] / np.sqrt(p), like)

    @jax.jit
    def final_length(beta, learning_rate):
        def step(carry, _):
            params, moment = carry
            gradient = jax.grad(loss_fn)(params, matrix)
            moment = jax.tree.map(
                lambda m, g: beta * m + (1 - beta) * g, moment, gradient
            )
            params = jax.tree.map(
                lambda x, m, p: x - learning_rate * m / p, params, moment, diagonal
            )
            return (params, moment), None

        start = jax.tree.map(jnp.zeros_like, x)
        (params, _), _ = jax.lax.scan(step, (x, start), length=1000)
        return jnp.linalg.norm(zoo.flatten(params))

    for beta in (0.0, 0.9):
        edge = 2 * (1 + beta) / (1 - beta) / top.eigenvalues[0]
        assert final_length(beta, 0.95 * edge) < 0.01
        assert final_length(beta, 1.05 * edge) > 100


def test_leaves_without_curvature_need_no_diagonal(dtype):
    problem, net, data, diagonal = problem_in(dtype)
    params = {"count": jnp.asarray([3, 4], jnp.int32), "net": net}

    def loss_fn(params, data):
        return problem.loss_fn(params["net"], data)

    v = {"count": None, "net": jax.tree.map(jnp.ones_like, net)}
    root = np.sqrt(zoo.to_vector(diagonal))
    expected = (networks.curvatures(NETWORK).hessian @ (1 / root)) / root
    for count in (None, jnp.asarray([1, 1], jnp.int32)):
        p = {"count": count, "net": diagonal}
        curvature = dominant.preconditioned(dominant.hessian(loss_fn), p)
        found = curvature(params, data)(v)
        assert found["count"] is None
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found))
        bound = ROUNDING * jnp.finfo(dtype).eps * np.linalg.norm(expected) * 100
        assert np.linalg.norm(zoo.to_vector(found) - expected) <= bound


@pytest.mark.usefixtures("x64")
def test_the_diagonal_may_have_another_precision():
    problem, params, data, _ = problem_in(jnp.float64)
    # powers of 4 are exact in both, and so are their roots
    exact = jax.tree.map(lambda x: jnp.full_like(x, 4.0), params)
    narrow = zoo.cast(exact, jnp.bfloat16)
    hessian = dominant.hessian(problem.loss_fn)
    a, b = (
        dominant.preconditioned(hessian, p)(params, data)(params)
        for p in (exact, narrow)
    )
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("entry", [0.0, -1.0])
def test_an_entry_that_is_not_positive_shows(entry):
    problem, params, data, diagonal = problem_in(jnp.float32)
    leaves, structure = jax.tree.flatten(diagonal)
    diagonal = structure.unflatten([leaves[0].at[0].set(entry), *leaves[1:]])
    curvature = dominant.preconditioned(dominant.hessian(problem.loss_fn), diagonal)
    product = zoo.to_vector(curvature(params, data)(params))
    assert np.any(np.isnan(product))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"layers": list(d["layers"])}, "diagonal must have the tree"),
        (lambda d: {**d, "extra": jnp.ones(2)}, "diagonal must have the tree"),
        (lambda d: d["layers"][0], "diagonal must have the tree"),
        (lambda d: jax.tree.map(lambda x: x[None], d), r"diagonal.*layers.*\(1, "),
        (lambda d: {"layers": (None, d["layers"][1])}, "diagonal must have the tree"),
        (lambda d: jnp.ones(()), "diagonal must have the tree"),
    ],
    ids=["container", "extra", "part", "shape", "missing", "scalar"],
)
def test_a_diagonal_that_does_not_fit_is_refused(change, message):
    problem, params, data, diagonal = problem_in(jnp.float32)
    hessian = dominant.hessian(problem.loss_fn)
    with pytest.raises(ValueError, match=message):
        dominant.preconditioned(hessian, change(diagonal))(params, data)


def test_vector_of_another_structure_is_refused():
    problem, params, data, diagonal = problem_in(jnp.float32)
    curvature = dominant.preconditioned(dominant.hessian(problem.loss_fn), diagonal)
    matvec = curvature(params, data)
    with pytest.raises(ValueError, match=r"the vector.*layers"):
        matvec(params["layers"])
