"""Judges of networks at the edge of stability on made-up runs: as claimed, and not."""

import numpy as np
import pytest

from experiments.bifurcation import LOSSES
from experiments.reproduction import trajectory_alignment
from experiments.reproduction.experiment import (
    NO_VERDICT,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
)
from tests.experiments.made_up import make_run, verdicts_of

EXPERIMENTS = {one.name: one for one in trajectory_alignment.EXPERIMENTS}
STEPS = 400


def run_of(loss="log_cosh", curve=None, off=0.01, steps=STEPS, num_train=1, spread=1.0):
    """A run whose p oscillates with a decay, and whose q is off a loss' curve."""
    ratio = LOSSES[curve or loss].ratio

    def metrics(step):
        p = 2 * (-1) ** step * np.exp(-step / 200)
        return {
            "loss/full": 1.0,
            "canonical/p": p / np.sqrt(spread),
            "canonical/q": ratio(p) * (1 - off),
            "canonical/concentration": spread,
        }

    parts = [("warmup", range(1), metrics), ("plain", range(1, steps), metrics)]
    task = {"loss": loss, "activation": "tanh", "init_scale": 2.0}
    settings = {
        "task": {**task, "num_train": num_train},
        "optimizer": {"learning_rate": 0.01},
    }
    return make_run(parts, 1, **settings)


def both(**changes):
    return {loss: run_of(loss, **changes) for loss in ("log_cosh", "sqrt")}


def test_networks_with_one_example():
    experiment = EXPERIMENTS["networks_one"]

    def found(runs):
        verdicts = verdicts_of(experiment, runs)
        return verdicts["P4-E4 one"], verdicts["P4-E5 networks"]

    assert found(both()) == (REPRODUCED, REPRODUCED)
    assert found(both(off=0.2))[0] == NOT_REPRODUCED
    swapped = {
        "a": run_of("log_cosh", curve="sqrt"),
        "b": run_of("sqrt", curve="log_cosh"),
    }
    assert found(swapped)[1] == NOT_REPRODUCED
    # Too few steps beyond the edge to say anything; one such run of five is listed.
    assert found(both(steps=20)) == (NO_VERDICT, NO_VERDICT)
    short = {"short": run_of(steps=20, off=0.5)}
    several = {f"{name} {i}": run for i in (1, 2) for name, run in both().items()}
    assert found({**several, **short}) == (REPRODUCED, REPRODUCED)
    assert found({**both(), **short})[0] == NO_VERDICT
    criteria = experiment.judge({**several, **short})
    assert "too few steps: tanh, log cosh" in criteria[0].note


def test_a_q_near_one_is_not_the_curve():
    """Small p at the end: the last half says nothing, the bent part does."""
    on, off = run_of(), run_of()
    lines = [{**line, "canonical/q": 0.95} for line in off.lines]
    experiment = EXPERIMENTS["networks_one"]
    assert verdicts_of(experiment, {"run": on})["P4-E4 one"] == REPRODUCED
    found = verdicts_of(experiment, {"run": off._replace(lines=lines)})
    assert found["P4-E4 one"] != REPRODUCED


def test_a_q_below_one_without_oscillation_is_off_the_curve():
    """There r is 1, and q within the bound of it."""
    run = run_of(num_train=50)
    lines = [{**line, "canonical/p": 1e-6, "canonical/q": 0.9} for line in run.lines]
    found = verdicts_of(EXPERIMENTS["networks"], {"run": run._replace(lines=lines)})
    assert found == {"P4-E4": PARTLY}


@pytest.mark.parametrize(
    ("off", "verdict"), [(0.05, REPRODUCED), (0.3, NOT_REPRODUCED)]
)
def test_networks_with_many_examples(off, verdict):
    runs = both(off=off, num_train=50)
    assert verdicts_of(EXPERIMENTS["networks"], runs) == {"P4-E4": verdict}


def test_the_curve_is_read_where_unequal_weights_put_it():
    run = run_of(num_train=50, spread=4.0)
    criteria = EXPERIMENTS["networks"].judge({"run": run})
    (bent,) = (one for one in criteria if "N Σ w⁴" in one.text)
    assert bent.holds
    lines = [{**line, "canonical/concentration": 1.0} for line in run.lines]
    criteria = EXPERIMENTS["networks"].judge({"run": run._replace(lines=lines)})
    (bent,) = (one for one in criteria if "N Σ w⁴" in one.text)
    assert bent.holds is False


def bulk_run(lowered=0.5, oscillates=False, loss_of_bulk=0.9, still=False):
    """Three branches from step 60 on, of which Bulk leaves the curve."""
    ratio = LOSSES["log_cosh"].ratio

    def metrics(mode):
        def of_step(step):
            p = 0.5 * (-1) ** step
            q = float(ratio(p))
            if mode == "plain" and still:
                p = 0.5
            if mode == "bulk":
                p, q = (p if oscillates else 0.5), lowered * q
            loss = loss_of_bulk if mode == "bulk" else 1.0
            return {
                "loss/full": loss,
                "canonical/p": p,
                "canonical/q": q,
                "canonical/concentration": 1.0,
                "sharpness/over_edge": 1.0,
            }

        return of_step

    modes = ("plain", "dom", "bulk")
    parts = [
        ("warmup", range(60), metrics("plain")),
        *((mode, range(60, 200), metrics(mode)) for mode in modes),
    ]
    settings = {"task": {"loss": "log_cosh"}, "report_window": 20}
    return {"run": make_run(parts, 60, **settings)}


def test_bulk_at_the_edge():
    def found(**changes):
        (verdict,) = verdicts_of(EXPERIMENTS["bulk_gd"], bulk_run(**changes)).values()
        return verdict

    assert found() == REPRODUCED
    assert found(lowered=1.0) == PARTLY
    assert found(oscillates=True) == PARTLY
    assert found(loss_of_bulk=1.5) == PARTLY
    # Gradient descent that does not oscillate is not at the edge.
    assert found(still=True) == PARTLY
