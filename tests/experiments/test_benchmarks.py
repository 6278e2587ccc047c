"""The benchmark: its rulers against known answers, its solvers against dense ones."""

import importlib
import importlib.util
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments.benchmarks import (
    arpack,
    jax_solvers,
    main,
    problems,
    report,
    truth,
    worker,
)
from experiments.benchmarks.problems import Instance
from experiments.benchmarks.solvers import SOLVERS, Solution

K = 3
SPECTRUM = np.array([9.0, 5.0, 4.0, 1.0, -2.0, -20.0])


@pytest.fixture(scope="module")
def instance() -> Instance:
    """An MLP 5-4-3 on 20 random examples, its last layer fitted: 39 parameters.

    Without the fit the eigenvalue of largest magnitude, PyHessian's first, is negative.
    """
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    inputs, kernel, bias = normal(20, 5), normal(5, 4), normal(4)
    labels = rng.integers(0, 3, 20).astype(np.int32)
    hidden = np.concatenate([np.tanh(inputs @ kernel + bias), np.ones((20, 1))], axis=1)
    last = np.linalg.lstsq(hidden, np.eye(3)[labels])[0].astype(np.float32)
    return Instance(
        inputs=inputs,
        labels=labels,
        kernels=[kernel, last[:4]],
        biases=[bias, last[4]],
        start=normal(39),
        lanczos_steps=20,
    )


@pytest.fixture(scope="module")
def dense(instance) -> np.ndarray:
    """The Hessian, from the formula of the network and reverse over reverse."""

    def loss(flat):
        b0, w0, b1, w1 = jnp.split(flat, np.cumsum([4, 20, 3]))
        hidden = jnp.tanh(instance.inputs @ w0.reshape(5, 4) + b0)
        errors = hidden @ w1.reshape(4, 3) + b1 - jnp.eye(3)[instance.labels]
        return jnp.sum(errors**2) / 2 / len(instance.inputs)

    (b0, b1), (w0, w1) = instance.biases, instance.kernels
    flat = np.concatenate([part.ravel() for part in (b0, w0, b1, w1)])
    with jax.enable_x64(True):
        return np.asarray(jax.jacrev(jax.jacrev(loss))(jnp.asarray(flat, jnp.float64)))


def require(name: str) -> None:
    """Skip if a solver's packages are not installed."""
    modules = {"curvlinops-for-pytorch": "curvlinops"}
    for package in SOLVERS[name].packages:
        module = pytest.importorskip(modules.get(package, package))
        if package == "torch":
            module.set_num_threads(1)  # its threads wait busily for each other


def check_solution(solution: Solution, dense: np.ndarray, name: str) -> None:
    # Power iteration stops when its eigenvalue hardly changes.
    tolerance = 0.05 if name.startswith("pyhessian") else 2e-3
    values, vectors = np.linalg.eigh(dense)
    np.testing.assert_allclose(
        np.sort(solution.eigenvalues), values[-K:], rtol=tolerance
    )
    exact = truth.Truth(values[::-1][: K + 1], vectors[:, -K:])
    assert truth.largest_sine(exact, solution) < 10 * tolerance


@pytest.mark.parametrize("name", jax_solvers.SETUPS)
def test_jax_solvers_find_the_space_and_count_their_products(
    name, instance, dense, monkeypatch
):
    require(name)
    executed = 0

    def count() -> None:
        nonlocal executed
        executed += 1

    def counting(curvature):
        def counted(*arguments):
            product = curvature(*arguments)

            def matvec(v):
                jax.debug.callback(count)
                return product(v)

            return matvec

        return counted

    hessian, hvp = dominant.hessian, dominant.hvp
    monkeypatch.setattr(dominant, "hessian", lambda loss: counting(hessian(loss)))
    monkeypatch.setattr(
        dominant,
        "hvp",
        lambda loss, params, v, data: counting(
            lambda p, d: lambda u: hvp(loss, p, u, d)
        )(params, data)(v),
    )
    solver = jax_solvers.SETUPS[name](instance, K)()
    found = solver.solve()
    jax.effects_barrier()
    solution = solver.read(found)
    # LOBPCG takes one only for its type: dead code, but for the callback.
    unused = 1 if name.startswith("lobpcg") else 0
    assert executed - unused == solution.num_matvecs
    check_solution(solution, dense, name)


@pytest.mark.parametrize(
    "name", [name for name in SOLVERS if name not in jax_solvers.SETUPS]
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's deprecations are not ours
def test_torch_solvers_find_the_space_of_the_same_problem(name, instance, dense):
    require(name)
    from experiments.benchmarks import torch_solvers

    solver = torch_solvers.SETUPS[name](instance, K)()
    check_solution(solver.read(solver.solve()), dense, name)
    np.testing.assert_allclose(
        solver.product(instance.start), dense @ instance.start, rtol=1e-4, atol=1e-4
    )


@pytest.mark.filterwarnings("ignore")
def test_pyhessians_products_are_counted(instance, monkeypatch):
    require("pyhessian")
    # The package has a class of this module's name.
    module = importlib.import_module("pyhessian.hessian")
    from experiments.benchmarks import torch_solvers

    executed = 0

    def counting(*arguments):
        nonlocal executed
        executed += 1
        return product(*arguments)

    product = module.hessian_vector_product
    monkeypatch.setattr(module, "hessian_vector_product", counting)
    solver = torch_solvers.SETUPS["pyhessian"](instance, K)()
    assert solver.read(solver.solve()).num_matvecs == executed


def test_float64_product_is_the_dense_one(instance, dense):
    _, product = truth.loss_and_product(instance)
    result = product(instance.start)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, dense @ instance.start, rtol=1e-10, atol=1e-12)


def test_top_is_largest_algebraic():
    start = np.ones(6)
    solution = arpack.eigsh(lambda v: SPECTRUM * v.ravel(), start, 2, tol=0)
    np.testing.assert_allclose(solution.eigenvalues, [9, 5])


def test_residual_and_sine_of_known_errors():
    angle = 0.01
    vectors = np.eye(6)[:2]
    vectors[1] = math.cos(angle) * np.eye(6)[1] + math.sin(angle) * np.eye(6)[3]
    # Lengths and signs do not matter.
    solution = Solution(np.array([9.0, 5.0]), vectors * [[-2.0], [1.0]], 0)
    exact = truth.Truth(SPECTRUM[:3], np.eye(6)[:, :2])
    np.testing.assert_allclose(truth.largest_sine(exact, solution), math.sin(angle))
    # |(D - 5) u| = (5 - 1) sin(angle)
    residual = truth.relative_residual(lambda v: SPECTRUM * v, solution)
    np.testing.assert_allclose(residual, 4 * math.sin(angle) / 5)


def test_non_finite_vectors_show():
    solution = Solution(np.array([9.0]), np.full((1, 6), np.nan), 0)
    assert math.isnan(truth.relative_residual(lambda v: SPECTRUM * v, solution))
    assert math.isnan(
        truth.largest_sine(truth.Truth(SPECTRUM[:2], np.eye(6)[:, :1]), solution)
    )


def test_lanczos_steps_end_where_the_residuals_do(instance, dense, monkeypatch):
    monkeypatch.setattr(truth, "K", K)
    steps = truth.lanczos_steps(instance, lambda v: dense @ v)
    assert steps is not None

    def worst(m: int) -> float:
        krylov = [instance.start.astype(np.float64)]
        for _ in range(m - 1):
            krylov.append(dense @ krylov[-1])
            krylov[-1] /= np.linalg.norm(krylov[-1])
        q, _ = np.linalg.qr(np.stack(krylov, axis=1))
        values, vectors = np.linalg.eigh(q.T @ dense @ q)
        found = Solution(values[-K:], (q @ vectors[:, -K:]).T, m)
        return truth.relative_residual(lambda v: dense @ v, found)

    assert worst(steps) <= problems.TOL < worst(steps - 1)


def test_a_solver_of_another_problem_is_refused(instance, tmp_path):
    solver = jax_solvers.SETUPS["eigsh-jax"](instance, K)()
    solution = solver.read(solver.solve())
    path = tmp_path / "instance.npz"
    assert worker._check(path, instance, solver, solution)["residual"] < 2e-3
    for other in (
        solver._replace(loss=lambda: 1.001 * solver.loss()),
        solver._replace(product=lambda v: 1.001 * solver.product(v)),
    ):
        with pytest.raises(worker.DisagreementError, match=r"differs.*0\.001"):
            worker._check(path, instance, other, solution)


def test_instances_survive_a_file(instance, tmp_path):
    path = tmp_path / "instance.npz"
    for original in (instance, instance._replace(lanczos_steps=None)):
        original.save(path)
        jax.tree.map(np.testing.assert_array_equal, Instance.load(path), original)
        assert Instance.load(path).lanczos_steps == original.lanczos_steps


def test_slope_of_a_power_law():
    np.testing.assert_allclose(
        report.slope([(x, 3 * x**1.5) for x in (1.0, 10.0, 40.0)]), 1.5
    )
    assert report.slope([(1, 2)]) is None


def test_quick_run_reports_every_solver(tmp_path, monkeypatch):
    monkeypatch.setattr(
        main, "version", lambda package: None if package == "torch" else "1.0"
    )
    main.main(
        [f"--out={tmp_path}", "--quick", "--solvers=ours,eigsh-torch", "--repeats=1"]
    )
    results = json.loads((tmp_path / "results.json").read_text())
    ours, missing = results["problems"]["quick"]["rows"]
    assert missing == {"solver": "eigsh-torch", "status": "not installed: torch"}
    assert ours["status"] == "ok"
    assert ours["residual"] <= 1.5e-3
    assert ours["sine"] <= ours["error_bound"] < 1
    text = (tmp_path / "results.md").read_text()
    assert "| `eigsh-torch` | not installed: torch |" in text
    assert f"| `ours` | {ours['num_matvecs']} |" in text


def test_what_fails_says_why(monkeypatch):
    monkeypatch.setattr(main, "_TIMEOUT_SECONDS", 60)
    row = main._work("solve", "missing.npz", "--solver=ours", "--k=1", "--repeats=1")
    assert "missing.npz" in row["status"]
    assert row["status"].startswith("failed (1): FileNotFoundError")


def test_unknown_names_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main.main([f"--out={tmp_path}", "--solvers=ours,magic"])
    assert "unknown: magic; known: ours," in capsys.readouterr().err


def test_growth_points_are_drawn_and_fitted(tmp_path):
    rows = [
        {
            "curve": "k",
            "solver": "ours",
            "status": "ok",
            "parameters": 10,
            "examples": 10,
            "k": k,
            "num_matvecs": 3 * k,
            "seconds": k**2.0,
            "seconds_per_product": 0.1,
            "peak_bytes": 1e6 * k,
            "planned_bytes": None,
            "residual": 1e-4,
        }
        for k in (1, 2, 4)
    ]
    rows.append({**rows[0], "k": 8, "status": "failed (1): no memory"})
    report.draw_growth(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    text = report._growth(rows)
    assert "| k | `ours` | 2.00 / 2.00 | 1.00 / 1.00 | 1.00 / 1.00 |" in text
    assert "failed (1): no memory" in text


def test_every_solver_can_be_found():
    assert set(jax_solvers.SETUPS) < set(SOLVERS)
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch")
    from experiments.benchmarks import torch_solvers

    assert {*jax_solvers.SETUPS, *torch_solvers.SETUPS} == set(SOLVERS)
