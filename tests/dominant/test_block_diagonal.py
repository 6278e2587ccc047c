"""A curvature without what couples its blocks, against the dense matrix."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo
from tests.dominant.layers import BLOCKS, HESSIAN, NETWORK, SIZES, given, layer
from tests.dominant.networks import assert_matrix

pytestmark = pytest.mark.usefixtures("strict")


def layer_of(path, leaf):
    del leaf
    return path[1].idx


def decoupled():
    """The dense Hessian, its blocks off the diagonal set to zero."""
    whole = networks.curvatures(NETWORK).hessian
    blocks = np.zeros_like(whole)
    for block in BLOCKS:
        blocks[block, block] = whole[block, block]
    return blocks


def dense(curvature, params, data):
    block = dominant.domain(curvature, params)
    size = zoo.to_vector(block).size
    columns = jax.jit(
        lambda params, data, identity: jax.vmap(curvature(params, data))(identity)
    )
    return zoo.to_rows(columns(params, data, zoo.from_rows(np.eye(size), block))).T


@pytest.mark.parametrize("batch_size", [None, 3])
def test_it_is_the_matrix_without_its_coupling(dtype, batch_size):
    params, data = given(dtype)
    whole = dominant.in_batches(HESSIAN, batch_size) if batch_size else HESSIAN
    curvature = dominant.block_diagonal(whole, layer_of)
    assert_matrix(dense(curvature, params, data), decoupled(), dtype)


@pytest.mark.usefixtures("x64")
def test_one_label_is_the_whole_and_one_a_leaf_the_finest():
    params, data = given(jnp.float64)
    whole = networks.curvatures(NETWORK).hessian
    one = dominant.block_diagonal(HESSIAN, lambda path, leaf: "all")
    assert_matrix(dense(one, params, data), whole, jnp.float64)
    finest = dominant.block_diagonal(
        HESSIAN, lambda path, leaf: jax.tree_util.keystr(path)
    )
    found = dense(finest, params, data)
    sizes = np.cumsum([0, *(leaf.size for leaf in jax.tree.leaves(params))])
    for i, j in itertools.pairwise(sizes):
        np.testing.assert_allclose(found[i:j, i:j], whole[i:j, i:j], atol=1e-12)
        assert not found[i:j, :i].any()
        assert not found[i:j, j:].any()


@pytest.mark.usefixtures("x64")
def test_of_a_restricted_curvature_it_keeps_the_domain():
    params, data = given(jnp.float64)
    curvature = dominant.block_diagonal(dominant.restrict(HESSIAN, layer(1)), layer_of)
    expected = networks.curvatures(NETWORK).hessian[BLOCKS[1], BLOCKS[1]]
    found = dense(curvature, params, data)
    assert found.shape == (SIZES[1],) * 2
    assert_matrix(found, expected, jnp.float64)


@pytest.mark.usefixtures("x64")
def test_its_eigenvectors_lie_in_one_block_each():
    params, data = given(jnp.float64)
    curvature = dominant.block_diagonal(HESSIAN, layer_of)

    @functools.partial(jax.jit, static_argnums=2)
    def solve(params, data, k):
        return dominant.top_eigenspace(curvature(params, data), params, k, tol=1e-9)

    top = solve(params, data, 4)
    expected = np.linalg.eigvalsh(decoupled())[::-1][:4]
    np.testing.assert_allclose(top.eigenvalues, expected, rtol=1e-8)
    for vector in zoo.to_rows(top.basis):
        norms = sorted(np.linalg.norm(vector[block]) for block in BLOCKS)
        np.testing.assert_allclose(norms, [0, 1], atol=1e-6)
