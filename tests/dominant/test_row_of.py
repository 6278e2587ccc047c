"""The block of one row of a layer, against the dense matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo
from tests.dominant.layers import HESSIAN, NETWORK, PROBLEM, given, layer
from tests.dominant.networks import assert_matrix

pytestmark = pytest.mark.usefixtures("strict")


def is_kernel(index):
    return lambda path, leaf: layer(index)(path, leaf) and leaf.ndim == 2


def indices_of_row(index, row):
    """The places of one row of a layer's kernel in the vector of all params."""

    def mark(path, leaf):
        marks = np.zeros(leaf.shape, bool)
        if is_kernel(index)(path, leaf):
            marks[row] = True
        return marks

    marks = jax.tree_util.tree_map_with_path(mark, PROBLEM.params)
    return np.flatnonzero(zoo.to_vector(marks))


def kernel_of(params, index):
    return params["layers"][index]["kernel"]


@pytest.mark.parametrize("index", [0, 1])
def test_blocks_of_all_rows_at_once(dtype, index):
    params, data = given(dtype)
    rows = len(kernel_of(params, index))

    def dense(row):
        block = dominant.row_of(dominant.restrict(HESSIAN, is_kernel(index)), row)
        like = dominant.domain(block, params)
        size = sum(leaf.size for leaf in jax.tree.leaves(like))
        identity = zoo.from_rows(np.eye(size), like)
        return jax.vmap(block(params, data))(identity)

    found = jax.jit(jax.vmap(dense))(jnp.arange(rows))
    whole = networks.curvatures(NETWORK).hessian
    (found,) = jax.tree.leaves(found)
    assert len(found) == rows > 1
    for row in range(rows):
        places = indices_of_row(index, row)
        assert len(places) == found.shape[-1]
        assert_matrix(found[row], whole[np.ix_(places, places)], dtype)


def test_the_top_of_all_rows_by_one_program():
    params, data = given(jnp.float32)
    curvature = dominant.restrict(HESSIAN, is_kernel(1))

    @jax.jit
    @jax.vmap
    def largest(row):
        block = dominant.row_of(curvature, row)
        like = dominant.domain(block, params)
        return dominant.top_eigenspace(block(params, data), like, 1).eigenvalues[0]

    whole = networks.curvatures(NETWORK).hessian
    rows = len(kernel_of(params, 1))
    expected = []
    for row in range(rows):
        places = indices_of_row(1, row)
        expected.append(np.linalg.eigvalsh(whole[np.ix_(places, places)])[-1])
    np.testing.assert_allclose(largest(jnp.arange(rows)), expected, rtol=1e-4)


def test_leaves_must_share_the_axis():
    params, _ = given(jnp.float32)
    with pytest.raises(ValueError, match="leave others out with `restrict`"):
        dominant.domain(dominant.row_of(HESSIAN, 0), params)
