"""H = G + F as measured, against dense matrices; products counted as executed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import optimizers, records, train
from experiments.measurements import density, energy
from tests.experiments.measured import K, make_case, parts, take
from tests.experiments.runs import small_config

INDEFINITE = "functional_hessian"


@pytest.fixture(scope="module")
def case():
    """The case of `make_case` with G, from Jacobians, and F, from its definition."""
    record, setting, dense = make_case()
    flat, unravel = ravel_pytree(record.params)
    labels = np.eye(10)[np.asarray(setting.train["labels"])]

    def outputs(x):
        return setting.task.predict_fn(unravel(x), setting.train)

    errors = jnp.asarray(np.asarray(outputs(flat)) - labels, jnp.float32)

    @jax.jit
    def derivatives(x):
        second = jax.hessian(lambda y: jnp.vdot(errors, outputs(y)))(x)
        return jax.jacobian(outputs)(x), second

    jacobian, second = (np.asarray(d, np.float64) for d in derivatives(flat))
    count = len(jacobian)
    dense["gauss_newton"] = np.einsum("nci,ncj->ij", jacobian, jacobian) / count
    dense["functional_hessian"] = second / count
    return record, setting, dense


@pytest.fixture(scope="module")
def energies(case):
    return take("energy", case)[0]


@pytest.fixture
def executed(monkeypatch, case):
    """Products executed with H, G and F, and a case that counts them."""
    record, setting, dense = case
    counts = dict.fromkeys(energy.MATRICES, 0)

    def add(name):
        counts[name] += 1

    def counting(name, curvature):
        def at(params, data):
            product = curvature(params, data)

            def matvec(v):
                # With an argument, so that vmap calls it for each of its vectors.
                jax.debug.callback(lambda _: add(name), jax.tree.leaves(v)[0])
                return product(v)

            return matvec

        return at

    split = optimizers.split_hessian

    def counting_split(config, task):
        return tuple(map(counting, energy.MATRICES[1:], split(config, task)))

    monkeypatch.setattr(optimizers, "split_hessian", counting_split)
    counted = setting._replace(curvature=counting("hessian", setting.curvature))
    return counts, (record, counted, dense)


@pytest.mark.parametrize("matrix", energy.MATRICES)
def test_energies_of_each_part(energies, case, matrix):
    dense = case[2]
    whole, scale = dense[matrix], np.linalg.norm(dense["hessian"])
    inside = dense["basis"].T @ dense["basis"] @ whole
    for name, part, total, unit in (
        ("trace", np.trace(inside), np.trace(whole), scale),
        ("frobenius", np.sum(inside**2), np.sum(whole**2), scale**2),
    ):
        found = energies[f"energy/{name}_dominant_{matrix}"]
        assert found == pytest.approx(part, rel=1e-3, abs=1e-5 * unit)
        estimate = energies[f"energy/{name}_{matrix}"]
        error = energies[f"energy/{name}_standard_error_{matrix}"]
        assert 0 < error < 0.2 * unit
        assert abs(estimate - total) < 4 * error
        if name == "trace" and matrix == INDEFINITE:
            continue
        share = energies[f"energy/{name}_share_{matrix}"]
        assert share == pytest.approx(found / estimate, rel=1e-4)
        error = energies[f"energy/{name}_share_standard_error_{matrix}"]
        assert abs(share - part / total) < 4 * error


@pytest.mark.parametrize("matrix", energy.MATRICES)
def test_the_gradients_energy(energies, case, matrix):
    dense = case[2]
    g, m = dense["gradient"], dense[matrix]
    pieces = {**parts(dense, g), "all": g}
    expected = {name: v @ m @ v for name, v in pieces.items()}
    unit = g @ g * np.linalg.norm(dense["hessian"], 2)
    for field, name in (("", "all"), ("_dominant", "dom"), ("_bulk", "bulk")):
        found = energies[f"energy/gradient{field}_{matrix}"]
        assert found == pytest.approx(expected[name], rel=1e-3, abs=1e-5 * unit)
    if matrix != INDEFINITE:
        share = energies[f"energy/gradient_share_{matrix}"]
        assert share == pytest.approx(expected["dom"] / expected["all"], rel=1e-3)


def test_an_indefinite_matrix_has_a_share_of_its_norm_alone(energies):
    shares = {
        name for name in energies if "share" in name and name.endswith(INDEFINITE)
    }
    assert shares == {
        f"energy/frobenius_share_{INDEFINITE}",
        f"energy/frobenius_share_standard_error_{INDEFINITE}",
    }


def test_products_of_the_energies(executed):
    counts, case = executed
    take("energy", case)
    jax.effects_barrier()
    each = K + energy.NUM_PROBES + 2
    assert counts == {"hessian": 0, "gauss_newton": each, "functional_hessian": each}
    assert 2 * each == 2 * K + 24  # as docs/measurements.md has it


def test_split(executed):
    counts, case = executed
    dense = case[2]
    metrics, _ = take("split", case)
    jax.effects_barrier()
    assert metrics["split/matvecs"] == sum(counts.values())
    assert max(counts["hessian"], counts["gauss_newton"]) <= 5 * K
    assert counts["functional_hessian"] <= 2 * energy.END_BUDGET
    spaces = []
    for matrix in ("hessian", "gauss_newton"):
        values, vectors = np.linalg.eigh(dense[matrix])
        spaces.append(vectors[:, ::-1][:, :K])
        found = metrics[f"split/eigenvalues_{matrix}"]
        np.testing.assert_allclose(found, values[::-1][:K], rtol=1e-3)
        residuals = metrics[f"split/residuals_{matrix}"]
        assert np.all(residuals <= 1e-2 * found)
        assert 0 < metrics[f"split/error_bound_{matrix}"] < 0.1
    overlap = np.sum((spaces[0].T @ spaces[1]) ** 2) / K
    assert 0.2 < overlap < 0.999
    assert metrics["split/overlap"] == pytest.approx(overlap, abs=5e-3)
    values = np.linalg.eigvalsh(dense["functional_hessian"])
    for end, value in (("largest", values[-1]), ("smallest", values[0])):
        found = metrics[f"split/{end}_functional_hessian"]
        residual = metrics[f"split/{end}_residual_functional_hessian"]
        assert residual <= 0.05 * abs(value) * 1.01
        assert abs(found - value) <= 1.01 * residual
        assert np.sign(found) == (1 if end == "largest" else -1)


def test_densities_are_those_of_the_parts(case, monkeypatch):
    """With all Lanczos steps, the probes' randomness is the only error."""
    dense = case[2]
    n, probes = len(dense["hessian"]), 10
    monkeypatch.setattr(density, "PROBES", probes)
    monkeypatch.setattr(density, "STEPS", n + 5)
    metrics, _ = take("density", case)
    values = {name: np.linalg.eigvalsh(dense[name]) for name in energy.MATRICES}
    largest = max(np.max(np.abs(v)) for v in values.values())
    c = metrics["density/linear_below"]
    assert c == pytest.approx(1e-3 * largest, rel=1e-4)
    x = np.arcsinh(metrics["density/grid"] / c)
    np.testing.assert_allclose(np.diff(x), x[1] - x[0], rtol=1e-3)
    for name, of_matrix in values.items():
        found = metrics[f"density/over_x_{name}"]
        assert np.trapezoid(found, x) == pytest.approx(1, abs=1e-3)
        distances = (x[:, None] - np.arcsinh(of_matrix / c)) / 0.25
        kernels = np.exp(-(distances**2) / 2) / (0.25 * np.sqrt(2 * np.pi))
        deviation = np.sqrt(2 * np.var(kernels, axis=1) / (n + 2) / probes)
        # Float32 moves the eigenvalues next to zero by some 1e-6 of the largest.
        error = np.abs(found - np.mean(kernels, axis=1))
        assert np.all(error <= 5 * deviation + 1e-2)


def test_products_of_the_densities(executed):
    counts, case = executed
    take("density", case)
    jax.effects_barrier()
    each = density.PROBES * density.STEPS
    assert counts == dict.fromkeys(energy.MATRICES, each)
    assert 3 * each == 240  # as docs/measurements.md has it


@pytest.mark.slow
def test_a_run_of_a_relu_net_with_cross_entropy(tmp_path):
    config = small_config()
    config.task.activation, config.task.loss = "relu", "cross_entropy"
    config.steps = 10
    config.switch.update({"threshold": 0.95, "min_steps": 0, "step": 5})
    config.measure.energy = config.measure.split = config.measure.density = 1
    config.examples_at_once = 40
    train.run(config, tmp_path)
    lines = records.read_metrics(tmp_path)
    assert len(lines) >= 2
    for line in lines:
        h, g, f = (line[f"energy/trace_{name}"] for name in energy.MATRICES)
        assert h == pytest.approx(g + f, rel=1e-4)
        assert abs(f) <= 4 * line["energy/trace_standard_error_functional_hessian"]
        assert line["energy/frobenius_functional_hessian"] > 0
        assert 0 < line["split/overlap"] <= 1.0001
        assert line["split/smallest_functional_hessian"] < 0
        assert len(line["density/over_x_gauss_newton"]) == len(line["density/grid"])
