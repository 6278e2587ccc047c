"""H = G + F of tiny networks: energies of each part against dense matrices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo

K, NUM_PROBES = 2, 30
MATRICES = ("hessian", "gauss_newton", "functional_hessian")

pytestmark = pytest.mark.usefixtures("strict")
every_network = pytest.mark.parametrize("name", networks.NETWORKS)


@functools.cache
def measured(name):
    """The energies in the top eigenspace of H, and the rows of its basis."""
    rows = np.linalg.eigh(networks.curvatures(name).hessian)[1].T[::-1][:K]
    with jax.enable_x64(True):
        problem, params, data = networks.problem_in(name, jnp.float64)
        parts = [networks.KINDS[kind](problem) for kind in MATRICES[1:]]
        subspace = zoo.subspace(rows, params)

        @jax.jit
        def measure(params, data, subspace):
            matvecs = [part(params, data) for part in parts]

            def products(v):
                of_g, of_f = (matvec(v) for matvec in matvecs)
                both = jax.tree.map(jnp.add, of_g, of_f)
                return dict(zip(MATRICES, (both, of_g, of_f), strict=True))

            return dominant.energies(
                products,
                params,
                key=jax.random.key(1),
                num_probes=NUM_PROBES,
                subspace=subspace,
            )

        return jax.device_get(measure(params, data, subspace)), rows


def dense(name, matrix):
    return getattr(networks.curvatures(name), matrix)


@every_network
@pytest.mark.parametrize("matrix", MATRICES)
def test_energies_of_a_network(name, matrix):
    energies, rows = measured(name)
    found, expected = energies[matrix], dense(name, matrix)
    scale = np.linalg.norm(dense(name, "hessian"))
    inside = rows.T @ rows @ expected
    np.testing.assert_allclose(
        found.trace_inside, np.trace(inside), rtol=1e-9, atol=1e-12 * scale
    )
    np.testing.assert_allclose(
        found.frobenius_inside, np.sum(inside**2), rtol=1e-9, atol=1e-12 * scale**2
    )
    for estimate, truth, floor in (
        (found.trace, np.trace(expected), scale),
        (found.frobenius, np.sum(expected**2), scale**2),
    ):
        error = 4 * estimate.standard_error + 1e-12 * floor
        assert abs(estimate.value - truth) <= error
        assert estimate.standard_error < 0.2 * floor


@every_network
def test_traces_of_the_parts_add_up(name):
    """For the estimates as well: all see the same probes."""
    energies, _ = measured(name)
    h, g, f = (energies[matrix] for matrix in MATRICES)
    assert h.trace.value == pytest.approx(g.trace.value + f.trace.value, rel=1e-12)
    assert h.trace_inside == pytest.approx(g.trace_inside + f.trace_inside, rel=1e-12)


@pytest.mark.parametrize("name", ["relu-squared", "relu-softmax"])
def test_a_relu_net_has_a_functional_hessian_without_trace(name):
    """Which is why a share of its trace would mean nothing, and that of its norm does.

    Its diagonal is zero: the layers' diagonal blocks are.
    """
    energies, rows = measured(name)
    found, expected = energies["functional_hessian"], dense(name, "functional_hessian")
    assert abs(np.trace(expected)) < 1e-12
    assert np.linalg.norm(expected) > 0.2 * np.linalg.norm(dense(name, "hessian"))
    assert abs(found.trace.value) <= 4 * found.trace.standard_error
    share = found.frobenius_share
    truth = np.sum((rows @ expected) ** 2) / np.sum(expected**2)
    assert abs(share.value - truth) <= 4 * share.standard_error
    assert 0 < share.standard_error < 0.1


@pytest.mark.parametrize("name", ["tanh-squared", "tanh-softmax"])
def test_a_tanh_net_has_a_functional_hessian_with_a_trace(name):
    expected = dense(name, "functional_hessian")
    assert abs(np.trace(expected)) > 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["linear-regression", "softmax-regression"])
def test_a_linear_model_has_no_functional_hessian_and_so_no_share(name):
    """Not rounding divided by rounding: F is 0, and its share is not a number."""
    found = measured(name)[0]["functional_hessian"]
    assert found.frobenius.value == 0
    assert np.isnan(found.frobenius_share.value)
    of_h = measured(name)[0]["hessian"].frobenius_share
    assert 0 < of_h.value < 1
