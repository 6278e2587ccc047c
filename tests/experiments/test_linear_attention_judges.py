"""Judges of the experiments on linear transformers: as claimed, and not."""

import numpy as np
import pytest

from experiments.reproduction import linear_attention
from experiments.reproduction.experiment import (
    NO_VERDICT,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    Run,
)
from experiments.reproduction.linear_attention import tails
from tests.experiments.made_up import make_run, verdicts_of

EXPERIMENTS = {one.name: one for one in linear_attention.EXPERIMENTS}
SETTINGS = {
    "setting 1": {"context": 20, "covariates": "gaussian"},
    "setting 2": {"context": 5, "covariates": "gaussian"},
    "setting 3": {"context": 20, "covariates": "gamma"},
}
PUBLISHED = {"setting 1": 1.7, "setting 2": 4.0, "setting 3": 8.0}


def trained(optimizer, loss, task, condition=1.0, directional=1.0, seeds=3, **fields):
    """A run that ends at a loss, with a robust condition number."""

    def line(step):
        return {
            "loss/full": loss + (5 - loss) * max(1 - step / 1000, 0),
            "conditioning/by_diagonal": condition,
            "conditioning/by_eigenvalues": condition,
            "smoothness/directional": directional,
        }

    # As the engine logs them: the branch begins at step 1.
    steps = [*range(1, 2500, 50), 2500]
    parts = [("warmup", range(0, 1), line), ("plain", steps, line)]
    config = {
        "log_every": 50,
        "optimizer": {"name": optimizer, "learning_rate": 0.02},
        "task": {"model": "linear_transformer", "num_layers": 3, **task},
        **fields,
    }
    return make_run(parts, 1, seeds, **config)


def in_all_settings(over=0.5, ratios=None, smoother=0.5):
    ratios = ratios or PUBLISHED
    runs = {}
    for name, task in SETTINGS.items():
        runs[f"{name} sgd"] = trained("heavy_ball", 1.0, task, ratios[name])
        runs[f"{name} adam"] = trained("adam", over, task, 1.0, smoother)
    return runs


def test_sgd_and_adam():
    def found(**changes):
        verdicts = verdicts_of(EXPERIMENTS["optimizers"], in_all_settings(**changes))
        return list(verdicts.values())

    assert found() == [REPRODUCED] * 3
    assert found(over=0.9)[0] == NOT_REPRODUCED
    assert found(smoother=1.5)[2] == NOT_REPRODUCED
    # Above 1, but far from the table in one setting.
    assert found(ratios={**PUBLISHED, "setting 3": 100.0})[1] == PARTLY
    below = dict.fromkeys(PUBLISHED, 0.5)
    assert found(ratios=below)[1] == NOT_REPRODUCED


def test_seeds_that_diverged():
    """One that did has no number at a step, and an infinite loss at the end."""
    runs = in_all_settings()
    bad = runs["setting 1 sgd"]
    outcomes = bad.status["branches"]["plain"]
    outcomes[1] = {"status": "diverged", "step": 500}
    lines = [line for line in bad.lines if line["seed"] != 1 or line["step"] < 500]
    runs["setting 1 sgd"] = bad._replace(lines=lines)
    criteria = EXPERIMENTS["optimizers"].judge(runs)
    (ends,) = (c for c in criteria if c.text == "setting 1, SGD: loss at the end")
    assert ends.values[1] == np.inf
    # Nor does Adam win against it.
    (win,) = (c for c in criteria if c.text.startswith("setting 1: Adam's loss"))
    assert (win.values, win.holds) == ((), None)
    assert np.isfinite(ends.values[0])
    of_step = [c for c in criteria if "setting 1, step 750" in c.text]
    assert [len(c.values) for c in of_step] == [2, 2]
    assert EXPERIMENTS["optimizers"].plots(runs)


def test_a_trend():
    experiment = EXPERIMENTS["smoothness"]
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(size=200))

    def found(power):
        bent = norms**power * np.exp(0.3 * rng.normal(size=200))
        bent[::10] *= -1

        def line(step):
            i = step // 10
            return {
                "loss/full": 1.0,
                "smoothness/gradient_norm": norms[i],
                "smoothness/directional": bent[i],
            }

        parts = [("warmup", range(0, 10, 10), line)]
        parts += [("plain", range(10, 2000, 10), line)]
        return verdicts_of(experiment, {"run": make_run(parts, 1)})["P5-E5"]

    assert found(1.0) == REPRODUCED
    assert found(-1.0) == NOT_REPRODUCED


def noisy(task, draw):
    rng = np.random.default_rng(0)
    line = {"branch": "start", "step": 0, "noise/norms": draw(rng, 4000).tolist()}
    return Run({"task": task}, {"status": "finished"}, [line], [])


def test_heavy_tails():
    def all_of(first, second, third, sphere, shallow, deep, deeper=None):
        plain = SETTINGS["setting 1"]
        draws = {
            "1": (plain, first),
            "2": (SETTINGS["setting 2"], second),
            "3": (SETTINGS["setting 3"], third),
            "sphere": ({**plain, "covariates": "sphere"}, sphere),
            "shallow": ({**plain, "num_layers": 2}, shallow),
            "deep": ({**plain, "num_layers": 6}, deep),
            "deeper": ({**plain, "num_layers": 8}, deeper or deep),
        }
        runs = {
            name: noisy({"dimension": 5, "num_layers": 3, **task}, draw)
            for name, (task, draw) in draws.items()
        }
        return verdicts_of(EXPERIMENTS["noise"], runs)

    def found(*draws):
        return all_of(*draws, light, light, heavy)["P5-E2"]

    def light(rng, num):
        return rng.normal(10, 1, num) + 0.3 * rng.exponential(1, num) ** 2

    def heavy(rng, num):
        return 1 + rng.pareto(5, num)

    def uniform(rng, num):
        return rng.uniform(1, 2, num)

    assert found(light, heavy, heavy) == REPRODUCED
    assert found(heavy, light, light) == PARTLY
    assert found(uniform, light, light) == PARTLY
    others = all_of(light, heavy, heavy, light, light, heavy)
    assert others["P5-E8 noise"] == others["P5-E9 noise"] == REPRODUCED
    others = all_of(light, heavy, light, heavy, heavy, light)
    assert others["P5-E8 noise"] == others["P5-E9 noise"] == NOT_REPRODUCED
    others = all_of(light, heavy, heavy, light, light, heavy, light)
    assert others["P5-E9 noise"] == PARTLY
    nothing = all_of(*[uniform] * 6)
    assert set(nothing.values()) == {NOT_REPRODUCED}


def test_the_tail_index_of_a_power_law():
    norms = 1 + np.random.default_rng(0).pareto(3.0, 40_000)
    index, error = tails.tail_index(norms)
    assert abs(index - 3) < 3 * error + 0.1
    assert 0.02 < error < 0.2


@pytest.mark.parametrize(("gamma", "expected"), [(6.0, REPRODUCED), (1.0, PARTLY)])
def test_covariates(gamma, expected):
    experiment = EXPERIMENTS["covariates"]

    def runs(ratio, of_last):
        found = {}
        for name, condition in (("sphere", 1.5), ("gamma", ratio)):
            task = {"context": 20, "covariates": name}
            found[f"{name} sgd"] = trained("heavy_ball", 1.0, task, condition)
            found[f"{name} adam"] = trained("adam", 0.5, task, 1.0)
        if of_last:
            late = found["gamma sgd"]
            lines = [
                line | {"conditioning/by_diagonal": 6.0}
                if line["step"] == 751
                else line
                for line in late.lines
            ]
            found["gamma sgd"] = late._replace(lines=lines)
        return found

    found = verdicts_of(experiment, runs(gamma, of_last=True))
    assert found == {"P5-E8": expected}
    found = verdicts_of(experiment, runs(1.0, of_last=False))
    assert found == {"P5-E8": NOT_REPRODUCED}


def test_softmax():
    task = SETTINGS["setting 1"]

    def found(softmax):
        runs = {
            "linear": trained("adam", 0.1, task),
            "slow": trained("adam", 0.9, task),
            "softmax": trained(
                "adam", softmax, {**task, "model": "softmax_transformer"}
            ),
        }
        return verdicts_of(EXPERIMENTS["softmax"], runs)["P5-E6"]

    assert found(0.5) == REPRODUCED
    assert found(0.15) == NOT_REPRODUCED


def test_depths_and_a_deep_one():
    def runs(ratios):
        found = {}
        for depth, ratio in ratios.items():
            task = {**SETTINGS["setting 1"], "num_layers": depth}
            found[f"sgd {depth}"] = trained("heavy_ball", 0.1 * ratio, task)
            found[f"adam {depth}"] = trained("adam", 0.1, task)
            found[f"adam {depth}, a worse rate"] = trained("adam", 9.0, task)
        return found

    experiment = EXPERIMENTS["depths"]
    grows, falls = {2: 1.5, 4: 2.0, 8: 5.0}, {2: 5.0, 4: 2.0, 8: 1.5}
    assert verdicts_of(experiment, runs(grows)) == {"P5-E9": REPRODUCED}
    assert verdicts_of(experiment, runs(falls)) == {"P5-E9": NOT_REPRODUCED}
    # Of three seeds with 8 layers one may diverge, and two not.
    for lost, verdict in ((1, NOT_REPRODUCED), (2, REPRODUCED)):
        found = runs({2: 1.5, 4: 2.0, 6: 3.0, 8: 1.1})
        adam = found["adam 8"]
        outcome = adam.status["branches"]["plain"][0]
        outcomes = [{**outcome, "status": "diverged"}] * lost + [outcome] * (3 - lost)
        branches = {**adam.status["branches"], "plain": outcomes}
        found["adam 8"] = adam._replace(status={**adam.status, "branches": branches})
        del found["adam 8, a worse rate"]
        assert verdicts_of(experiment, found) == {"P5-E9": verdict}
    two = {name: run for name, run in found.items() if " 4" not in name}
    assert verdicts_of(experiment, two) == {"P5-E9": NO_VERDICT}
    experiment = EXPERIMENTS["deep"]
    assert verdicts_of(experiment, runs({8: 2.0})) == {"P5-E7": REPRODUCED}
    assert verdicts_of(experiment, runs({8: 1.1})) == {"P5-E7": NOT_REPRODUCED}


def test_spaces():
    def of(optimizer, losses, before=1.0):
        def line(loss):
            return lambda step: {
                "loss/full": before * (loss if step > 1000 else 1.0),
                "alignment/gradient": 0.9,
                "subspace/angle": 0.1,
            }

        parts = [("warmup", range(0, 1000, 50), line(1.0))]
        parts += [
            (name, range(1000, 2001, 50), line(loss)) for name, loss in losses.items()
        ]
        subspace = {"k": 2, "refresh_every": 1}
        optimizer = {"name": optimizer}
        return make_run(parts, 1000, optimizer=optimizer, subspace=subspace)

    def found(before=1.0, **changes):
        sgd = {"plain": 0.5, "dom": 1.0, "bulk": 0.5}
        adam = {"plain": 0.2, "dom": 1.0, "bulk": 0.2, **changes}
        runs = {"sgd": of("heavy_ball", sgd), "adam": of("adam", adam, before)}
        return verdicts_of(EXPERIMENTS["spaces"], runs)["P5 spaces"]

    assert found() == REPRODUCED
    assert found(dom=0.3) == PARTLY
    assert found(bulk=0.6) == PARTLY
    # That Adam was ahead at the switch is no advantage in the bulk.
    assert found(before=0.01, plain=0.5, bulk=0.5) == PARTLY
