"""Several seeds in one program against one run each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from experiments import optimizers, programs, records, report, steps, train
from experiments.tasks import make_task
from tests.experiments.runs import lines_of, tiny_config

SEEDS = 3


def seeds_config():
    config = tiny_config()
    # They align at different steps.
    config.switch.threshold = 0.5
    config.switch.min_steps = 0
    # A refresh that others need comes earlier than alone: so, at each step.
    config.subspace.refresh_every = 1
    config.measure.spectrum = config.measure.held_out = 0
    config.modes = ("bulk",)
    return config


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    config = seeds_config()
    config.seeds = SEEDS
    workdir = tmp_path_factory.mktemp("seeds") / "together"
    return workdir, train.run(config, workdir)


def test_each_seed_switches_when_its_own_time_has_come(together):
    workdir, status = together
    assert status["status"] == "finished"
    switches = status["switch_step"]
    assert len(set(switches)) > 1
    for seed, switch in enumerate(switches):
        warmup = lines_of(workdir, "warmup", seed)
        assert [line["step"] for line in warmup] == list(range(0, switch, 5))
        bulk = [line["step"] for line in lines_of(workdir, "bulk", seed)]
        assert bulk == [*range(switch, 60, 5), 60]


def test_the_report_has_means_and_spreads(together):
    workdir, _ = together
    page = report.write_report(workdir).read_text()
    ends = [
        np.mean(
            [
                line["loss/full"]
                for line in lines_of(workdir, "bulk", seed)
                if line["step"] > 50
            ]
        )
        for seed in range(SEEDS)
    ]
    assert f"{np.mean(ends):.4g} ± {np.std(ends, ddof=1):.4g}" in page
    assert f"over {SEEDS} seeds, of which {SEEDS}" in page
    assert "the tables below are of seed 0" in page


@pytest.mark.parametrize("seed", [0, SEEDS - 1])
def test_seeds_together_train_as_each_does_alone(seed, together, tmp_path):
    workdir, status = together
    config = seeds_config()
    config.seed = seed
    alone = train.run(config, tmp_path)
    assert alone["switch_step"] == status["switch_step"][seed]
    pairs = zip(
        records.read_metrics(tmp_path),
        [*lines_of(workdir, "warmup", seed), *lines_of(workdir, "bulk", seed)],
        strict=True,
    )
    for expected, found in pairs:
        for name in ("branch", "seed", "step"):
            assert found[name] == expected[name]
        for name in ("loss/full", "loss/batch", "alignment/average"):
            assert found[name] == pytest.approx(expected[name], rel=1e-3), name


def test_refreshes_are_decided_together_and_executed_once(monkeypatch):
    """Products are counted as executed, for all members at once."""
    executed = []

    def counting_curvature(config, task):
        hessian = dominant.hessian(task.loss_fn)

        def curvature(params, data):
            product = hessian(params, data)

            def matvec(v):
                jax.debug.callback(lambda: executed.append(1))
                return product(v)

            return matvec

        return curvature

    monkeypatch.setattr(optimizers.tracked, "tracked_curvature", counting_curvature)
    config = seeds_config()
    config.seeds = SEEDS
    task = make_task(config.task)
    made = programs.programs(config, task)
    state = made.initial_state()
    branch = steps.Branch(
        jnp.float32(0),
        jnp.float32(1),
        jnp.zeros((), bool),
        jnp.full(SEEDS, 60, jnp.int32),
    )
    due = {
        name: np.bool_(True) for name in ("losses", "alignments", "certificate", "cost")
    }
    arguments = (state, branch, np.int32(12), due, task.train, task.test)
    state, _ = made.compile_chunk(*arguments)(*arguments)
    jax.effects_barrier()
    tracker = state.opt_state
    assert list(tracker.refreshes) == [12, 12, 12]
    # Of each refresh the worst member's products: no less than the largest total.
    worst = int(jnp.max(tracker.total_matvecs))
    assert worst <= len(executed) < int(jnp.sum(tracker.total_matvecs))


@pytest.mark.slow
def test_seeds_resume_to_equal_metrics(together, tmp_path, monkeypatch):
    reference, _ = together
    config = seeds_config()
    config.seeds = SEEDS
    append, count = records.append_metrics, []

    def append_then_die(workdir, line):
        append(workdir, line)
        count.append(line)
        if len(count) == 25:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(records, "append_metrics", append_then_die)
        with pytest.raises(KeyboardInterrupt):
            train.run(config, tmp_path)
    assert train.run(config, tmp_path)["status"] == "finished"
    for found, expected in zip(
        records.read_metrics(tmp_path), records.read_metrics(reference), strict=True
    ):
        found.pop("time/seconds")
        expected.pop("time/seconds")
        assert found == expected
