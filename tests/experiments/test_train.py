"""The training loop end to end, on a few digits and a tiny network."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import (
    curvature_check,
    measurements,
    optimizers,
    programs,
    records,
    report,
    steps,
    train,
)
from experiments.tasks import make_task
from tests.experiments.runs import lines_of, tiny_config, without_times

pytestmark = pytest.mark.usefixtures("kept_programs")

BRANCHES = ["warmup", "plain", "dom", "bulk"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, kept_programs):
    """A whole run: its folder and its status."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    return workdir, train.run(tiny_config(), workdir, ["the", "command"])


# --- a whole run ----------------------------------------------------------------------


def test_a_run_leaves_its_records(finished):
    workdir, status = finished
    assert status["status"] == "finished"
    assert list(status["branches"]) == BRANCHES
    assert records.read_config(workdir)["steps"] == 60
    assert records.read_provenance(workdir)[0]["argv"] == ["the", "command"]
    assert [m["branch"] for m in records.read_metrics(workdir)] == sorted(
        (m["branch"] for m in records.read_metrics(workdir)), key=BRANCHES.index
    )
    assert report.write_report(workdir).read_text().startswith("<!doctype html>")


def test_the_switch_comes_at_the_step_that_the_rule_names(finished):
    workdir, status = finished
    switch = status["switch_step"]
    assert 12 <= switch < 60
    assert status["branches"]["warmup"] == {"status": "finished", "step": switch}
    for name in BRANCHES[1:]:
        lines = lines_of(workdir, name)
        assert lines[0]["step"] == switch
        assert lines[-1]["step"] == 60
        # Each 5 steps in between.
        assert all((line["step"] - switch) % 5 == 0 for line in lines[:-1])
        assert len(lines) == -(-(60 - switch) // 5) + 1


def test_branches_fork_from_one_complete_state(finished):
    workdir, _ = finished
    plain, dom, bulk = (lines_of(workdir, name)[0] for name in BRANCHES[1:])
    assert dom.pop("alignment/update") > 0.999
    assert bulk.pop("alignment/update") < 0.001
    assert 0.001 < plain.pop("alignment/update") < 0.999
    for line in without_times([dom, bulk]):
        assert line["branch"] != "plain"
        # The same parameters, batch, basis and counters.
        assert {**line, "branch": "plain"} == without_times([plain])[0]
    ends = [lines_of(workdir, name)[-1]["loss/full"] for name in BRANCHES[1:]]
    assert len(set(ends)) == 3


def test_measurements_are_those_of_the_logged_parameters(finished):
    """The line at the switch against dense linear algebra at the saved parameters."""
    workdir, status = finished
    config = tiny_config()
    task = make_task(config.task)
    like = programs.programs(config, task).initial_state()
    state = records.restore_named(workdir, "switch", like)
    assert int(state.step) == status["switch_step"]
    flat, unravel = jax.flatten_util.ravel_pytree(state.params)

    def loss(x):
        return task.loss_fn(unravel(x), task.train)

    hessian = np.asarray(jax.jit(jax.hessian(loss))(flat), np.float64)
    values, vectors = np.linalg.eigh(hessian)
    values, vectors = values[::-1], vectors[:, ::-1]
    line = lines_of(workdir, "plain")[0]
    assert line["loss/full"] == pytest.approx(float(loss(flat)), rel=1e-5)
    np.testing.assert_allclose(line["spectrum/eigenvalues"], values[:6], rtol=5e-2)
    logits = task.predict_fn(state.params, task.train)
    labels = np.asarray(task.train["labels"])
    hits = np.mean(np.argmax(np.asarray(logits), axis=1) == labels)
    assert line["accuracy/full"] == pytest.approx(hits)
    # chi_k is taken with the basis in use, at most one refresh interval old.
    gradient = np.asarray(jax.jit(jax.grad(loss))(flat), np.float64)
    chi = np.linalg.norm(vectors[:, :3].T @ gradient) / np.linalg.norm(gradient)
    assert line["alignment/gradient"] == pytest.approx(chi, abs=0.1)
    assert 0 <= line["subspace/steps_since_refresh"] < 5


def test_warmup_and_plain_are_ordinary_training(finished):
    """An independent loop with optax, in the run's own data order."""
    workdir, _ = finished
    config = tiny_config()
    task = make_task(config.task)
    params = task.init(jax.random.key(config.seed))
    tx = optax.sgd(0.1, momentum=0.5)
    state = tx.init(params)
    lines = lines_of(workdir, "warmup") + lines_of(workdir, "plain")
    expected = {line["step"]: line["loss/batch"] for line in lines}
    shuffling = jax.random.fold_in(jax.random.key(config.seed), 1)

    @jax.jit
    def step(params, state, batch):
        loss, gradient = jax.value_and_grad(task.loss_fn)(params, batch)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    seen = {}
    for number in range(60):
        epoch, position = divmod(number, 100 // 16)
        order = jax.random.permutation(jax.random.fold_in(shuffling, epoch), 100)
        chosen = order[16 * position : 16 * (position + 1)]
        batch = jax.tree.map(lambda x, chosen=chosen: x[chosen], task.train)
        params, state, loss = step(params, state, batch)
        seen[number] = float(loss)
    for number, loss in expected.items():
        if number < 60:
            assert seen[number] == pytest.approx(loss, rel=1e-5)
    full = float(task.loss_fn(params, task.train))
    assert lines[-1]["loss/full"] == pytest.approx(full, rel=1e-5)


def test_an_epoch_has_each_example_at_most_once():
    config = tiny_config()
    task = make_task(config.task)
    state = programs.programs(config, task).initial_state()
    orders = []
    for number in range(13):
        state = state._replace(step=jnp.int32(number))
        state = steps.with_epoch_order(config, task, state)
        orders.append(np.asarray(state.order))
    np.testing.assert_array_equal(np.sort(orders[0]), np.arange(100))
    for number in range(13):
        np.testing.assert_array_equal(orders[number], orders[number - number % 6])
    assert not np.array_equal(orders[0], orders[6])
    assert not np.array_equal(orders[6], orders[12])


# --- a second start ----------------------------------------------------------------


def test_a_finished_run_is_left_as_it_is(finished):
    workdir, status = finished
    before = records.read_metrics(workdir)
    again = train.run(tiny_config(), workdir)
    assert {**again, "seconds": 0} == {**status, "seconds": 0}
    assert records.read_metrics(workdir) == before


def test_noise_free_steps_are_those_of_gradient_descent(tmp_path):
    def losses(name, **fields):
        config = short_config()
        config.optimizer.momentum = 0.0
        config.update_from_flattened_dict(fields)
        train.run(config, tmp_path / name)
        return [line["loss/full"] for line in records.read_metrics(tmp_path / name)]

    found = losses("free", **{"optimizer.name": "sgd", "noise_free_steps": (0, 10**6)})
    expected = losses("gd", **{"optimizer.name": "gd"})
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_noise_free_steps_that_cannot_be_are_refused():
    config = short_config()
    config.noise_free_steps = (5, 5)
    with pytest.raises(ValueError, match="first < last"):
        train.check(config)
    config.noise_free_steps = (0, 5)
    config.optimizer.sam_rho = 0.05
    with pytest.raises(ValueError, match="SAM"):
        train.check(config)


# --- endings --------------------------------------------------------------------------


def short_config():
    """Without the measurements that need a program of their own."""
    config = tiny_config()
    config.measure.spectrum = config.measure.held_out = 0
    return config


def test_divergence_ends_the_run_and_names_the_step(tmp_path):
    config = short_config()
    config.optimizer.learning_rate = 1e8
    status = train.run(config, tmp_path)
    assert status["status"] == "diverged"
    assert status["branch"] == "warmup"
    assert status["branches"]["warmup"] == {
        "status": "diverged",
        "step": status["step"],
    }
    assert 0 < status["step"] < 60
    assert status["switch_step"] is None
    lines = records.read_metrics(tmp_path)
    assert lines
    assert lines[0]["loss/full"] > 0
    assert report.write_report(tmp_path).exists()


def test_steps_that_are_not_finite_can_be_left_out(tmp_path):
    config = short_config()
    config.optimizer.learning_rate = 1e8
    config.optimizer.skip_not_finite = True
    config.subspace.refresh_every = 10**9
    status = train.run(config, tmp_path)
    assert status["status"] == "finished"
    skipped = [line["cost/skipped_steps"] for line in lines_of(tmp_path, "warmup")]
    # Two steps take it so far away that no other one is finite.
    assert skipped == [0, *range(3, 59, 5)]
    assert report.write_report(tmp_path).exists()


def test_params_that_are_not_finite_after_the_last_step_are_seen():
    """No next loss shows them."""
    config = short_config()
    task = make_task(config.task)
    state = steps.initial_state(config, task, jnp.int32(0))
    state = state._replace(step=jnp.int32(7))
    bad = state._replace(
        params=jax.tree.map(lambda p: p.at[-1].set(jnp.inf), state.params)
    )
    assert steps.checked(state).diverged_at == steps.NOT_DIVERGED
    assert steps.checked(bad).diverged_at == 7
    known = bad._replace(diverged_at=jnp.int32(5))
    assert steps.checked(known).diverged_at == 5


def test_a_run_that_never_switches_says_so(tmp_path):
    config = short_config()
    config.switch.threshold = 0.999999
    status = train.run(config, tmp_path)
    assert status["status"] == "finished"
    assert status["switch_step"] is None
    assert list(status["branches"]) == ["warmup"]
    assert lines_of(tmp_path, "warmup")[-1]["step"] == 60


def test_one_compiled_chunk_serves_all_branches_and_lines():
    """It is compiled ahead of time, for one signature."""
    config = tiny_config()
    config.switch.min_steps = 40  # no chunk ends early
    task = make_task(config.task)
    made = programs.programs(config, task)
    state, compiled = made.initial_state(), None
    for is_due in (True, False):
        due = dict.fromkeys(measurements.chosen(config), np.bool_(is_due))
        for dom, bulk in ((1, 1), (0, 1)):
            branch = steps.Branch(
                jnp.float32(dom), jnp.float32(bulk), jnp.asarray(is_due), jnp.int32(60)
            )
            for num_steps in (np.int32(5), np.int32(3)):
                before = int(state.step)
                arguments = (state, branch, num_steps, due, task.train, task.test)
                if compiled is None:
                    compiled = made.compile_chunk(*arguments)
                state, _ = compiled(*arguments)
                assert int(state.step) == before + num_steps


def test_a_compiled_chunk_serves_other_learning_rates():
    """It takes the numbers of the schedule from its branch, not from the config."""
    config = tiny_config()
    config.switch.update({"threshold": 0.95, "min_steps": 0, "step": 1})
    config.optimizer.schedule = "piecewise"
    config.optimizer.drop_steps = (6,)
    config.measure.sharpness = 1
    task = make_task(config.task)

    def params_and_edge(rates_in_config, rates):
        with config.unlocked():
            config.optimizer.learning_rate, config.optimizer.drop_factor = (
                rates_in_config
            )
        made = programs.programs(config, task)
        branch = steps.Branch(*map(jnp.float32, (1, 1)), jnp.bool_(False), jnp.int32(9))
        branch = branch._replace(rates=rates)
        due = dict.fromkeys(measurements.chosen(config), np.bool_(True))
        start = made.initial_state()
        arguments = (start, branch, np.int32(9), due, task.train, task.test)
        state, metrics = made.compile_chunk(*arguments)(*arguments)
        return state.params, metrics["sharpness"]["sharpness/edge"]

    expected, edge = params_and_edge((0.02, 3.0), None)
    found, other_edge = params_and_edge(
        (0.1, 0.5), optimizers.Rates(*map(jnp.float32, (0.02, 3.0)))
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )
    np.testing.assert_allclose(other_edge, edge, rtol=1e-6)


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "modes",
            ("plain", "dominant"),
            "unknown modes.*: bulk, dom, interpolated, p",
        ),
        ("checkpoint_every", 7, "multiple of log_every"),
        ("measure.trace", -1, "measure.trace must be at least 0"),
        ("measure.effective_sharpness", 1, "of adam or adamw, not of 'heavy_ball'"),
        ("seeds", 0, "seeds must be at least 1"),
        ("steps", 0, "steps must be at least 1"),
        ("batch_size", 101, "exceeds the 100 examples"),
        ("task.dataset", "imagenet", "known ones: cifar10, digits, fashion"),
        ("task.loss", "hinge", "known ones: cross_entropy, half_squared_error"),
        ("task.activation", "sine", "known ones: "),
        ("optimizer.name", "lion", "known ones: adam, adamw, gd, heavy_ball"),
        ("subspace.k", 0, "k must be at least 1"),
        ("subspace.k", 10_000, "exceeds the 460 parameters"),
        ("subspace.refresh_every", -1, "n >= 1"),
        ("subspace.max_angle", -0.1, "max_angle > 0"),
    ],
)
def test_impossible_configs_are_refused_before_anything_is_written(
    path, value, message, tmp_path
):
    config = tiny_config()
    with config.unlocked():
        config.update_from_flattened_dict({path: value})
    if path == "subspace.max_angle":
        config.subspace.refresh_every = 0
    with pytest.raises(ValueError, match=message):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_momentum_that_the_optimizer_would_ignore_is_refused(tmp_path):
    config = tiny_config()
    config.optimizer.name, config.optimizer.momentum = "adam", 0.9
    with pytest.raises(ValueError, match=r"optimizer\.momentum = 0\.9 has no effect"):
        train.run(config, tmp_path / "run")


def test_wrong_products_are_refused_at_each_start(tmp_path, monkeypatch):
    def refuse(loss_fn, params, data):
        assert len(data["labels"]) == 8
        raise curvature_check.CurvatureError("off by a factor of two")

    monkeypatch.setattr(curvature_check, "check_products", refuse)
    config = tiny_config()
    config.check_curvature = True
    for _ in range(2):
        with pytest.raises(curvature_check.CurvatureError, match="factor of two"):
            train.run(config, tmp_path)
    assert not records.read_metrics(tmp_path)


def test_another_configs_folder_is_refused_untouched(finished):
    workdir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in Path(workdir).rglob("*")}
    config = tiny_config()
    config.optimizer.learning_rate = 0.2
    with pytest.raises(records.ForeignWorkdirError, match=r"optimizer\.learning_rate"):
        train.run(config, workdir)
    after = {path: path.stat().st_mtime_ns for path in Path(workdir).rglob("*")}
    assert before == after


def run_main(*arguments):
    command = [sys.executable, "-m", "experiments.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_unknown_fields_on_the_command_line_are_refused(tmp_path):
    result = run_main(
        "--config=configs/quickstart.py",
        "--config.stepps=3",
        f"--workdir={tmp_path}/run",
    )
    assert result.returncode != 0
    assert "stepps" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_data_set_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    result = run_main(
        "--config=configs/tiny_subspaces/mlp_mnist.py", f"--workdir={tmp_path}/run"
    )
    assert result.returncode == 1
    assert "make data DATASET=mnist" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


# --- configs --------------------------------------------------------------------------


def config_files():
    return sorted(
        path
        for path in Path("configs").rglob("*.py")
        if "def get_config" in path.read_text("utf-8")
    )


@pytest.mark.parametrize("path", config_files(), ids=str)
def test_configs_load_locked_and_survive_json(path):
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    config = scope["get_config"]()
    assert config.is_locked
    with pytest.raises(AttributeError):
        config.no_such_field = 1
    if "checkpoint_every" in config:  # a run of the training loop
        train.check(config)
    assert json.loads(json.dumps(config.to_dict()))["steps"] == config.steps
    assert scope["__doc__"]


@pytest.mark.usefixtures("tfds_data_dir")
def test_mnist_trains_from_tfds(tmp_path):
    config = short_config()
    config.task.dataset = "mnist"
    config.task.num_train = 200
    config.steps = 30
    status = train.run(config, tmp_path)
    assert status["status"] == "finished"
    lines = lines_of(tmp_path, "warmup")
    assert lines[-1]["loss/full"] < lines[0]["loss/full"]
    assert 0 < lines[0]["loss/full"] < 1
