"""Judges of the tiny-subspaces experiments on made-up runs: as claimed, and not."""

import math

import pytest

from experiments.reproduction import tiny_subspaces
from experiments.reproduction.experiment import (
    NO_VERDICT,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
)
from tests.experiments.made_up import make_run, verdicts_of

EXPERIMENTS = {one.name: one for one in tiny_subspaces.EXPERIMENTS}


def verdicts(name, runs):
    return verdicts_of(EXPERIMENTS[name], runs)


# Figure 1.


def figure_1(plain=0.4, dom=1.0, bulk=0.41, switch_step=2000, gap=3.0, accuracy=0.9):
    def line(loss, chi=0.97, accuracy=0.9):
        return lambda step: {
            "loss/full": loss,
            "alignment/gradient": chi,
            "alignment/average": 0.9,
            "accuracy/test": accuracy,
            "spectrum/eigenvalues": [9.0, gap, 1.0, 0.5],
        }

    steps = range(2000, 4001, 50)
    branches = [("plain", steps, line(plain)), ("dom", steps, line(dom))]
    branches.append(("bulk", steps, line(bulk, accuracy=accuracy)))
    parts = [("warmup", range(0, 2000, 50), line(1.0))]
    return {"run": make_run(parts + (branches if switch_step else []), switch_step)}


def test_figure_1_as_claimed():
    found = verdicts("mlp_mnist", figure_1())
    assert set(found.values()) == {REPRODUCED}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("changes", "claim", "expected"),
    [
        ({"dom": 0.9}, "P1-E1 MLP", PARTLY),
        ({"bulk": 0.55}, "P1-E1 MLP", PARTLY),
        ({"plain": 0.9, "dom": 0.9, "bulk": 0.61}, "P1-E1 MLP", NOT_REPRODUCED),
        ({"switch_step": 9000}, "P1-E2 MLP", NO_VERDICT),
        ({"switch_step": 400}, "P1-E2 MLP", PARTLY),
        ({"gap": 1.9}, "P1-E3 MLP", NOT_REPRODUCED),
        ({"accuracy": 0.87}, "P1-R1 MLP", NOT_REPRODUCED),
    ],
)
def test_figure_1_not_as_claimed(changes, claim, expected):
    assert verdicts("mlp_mnist", figure_1(**changes))[claim] == expected


def test_a_run_that_never_switched_gives_no_verdict_and_says_so():
    runs = figure_1(switch_step=None)
    found = verdicts("mlp_mnist", runs)
    assert found["P1-E1 MLP"] == found["P1-E2 MLP"] == NO_VERDICT
    notes = [one.note for one in EXPERIMENTS["mlp_mnist"].judge(runs)]
    assert any(
        "never met the switch rule: the moving average reached 0.900" in n
        for n in notes
    )


# The noise.


def noise_off(without=0.01, again=0.98):
    def chi(step):
        value = 0.97 if step < 4000 else without if step < 4500 else again
        return {"alignment/gradient": value, "loss/full": 1.0}

    steps = range(1, 5500, 10)
    run = make_run([("plain", steps, chi)], 1, seeds=2, noise_free_steps=[4000, 4500])
    return {"run": run}


def test_noise_off():
    assert verdicts("noise_off", noise_off()) == {"P1-E4 MLP": REPRODUCED}
    assert verdicts("noise_off", noise_off(without=0.3)) == {"P1-E4 MLP": PARTLY}
    assert verdicts("noise_off", noise_off(again=0.01)) == {"P1-E4 MLP": PARTLY}


def batch_sizes(chi):
    return {
        f"batch_size={size}": make_run(
            [("plain", range(0, 3000, 50), lambda _, c=c: {"alignment/gradient": c})],
            1,
            batch_size=size,
        )
        for size, c in chi.items()
    }


def test_batch_size():
    falls = batch_sizes({10: 0.9, 50: 0.5, 250: 0.05})
    assert verdicts("batch_size", falls) == {"P1-R2": REPRODUCED}
    rises = batch_sizes({10: 0.5, 50: 0.9, 250: 0.05})
    assert verdicts("batch_size", rises) == {"P1-R2": PARTLY}
    # Their order in the mapping is not their order by size.
    rises = batch_sizes({250: 0.9, 10: 0.5})
    assert verdicts("batch_size", rises) == {"P1-R2": NOT_REPRODUCED}


# Gradient descent.


def edge(chi_before=0.01, chi_after=0.97, bulk=0.5, enters_at=300):
    def descent(loss):
        def line(step):
            over = step / enters_at if step < enters_at else 1.05
            return {
                "loss/full": 1.0 if step < 500 else loss,
                "alignment/gradient": chi_before if step < enters_at else chi_after,
                "sharpness/over_edge": over,
                "sharpness/largest": 20 * over,
                "subspace/next_eigenvalue": 5.0,
            }

        return line

    before, after = range(0, 500, 10), range(500, 3001, 10)
    parts = [("warmup", before, descent(1.0)), ("plain", after, descent(0.5))]
    parts += [("dom", after, descent(0.99)), ("bulk", after, descent(bulk))]
    return {"run": make_run(parts, 500, optimizer={"learning_rate": 0.1})}


def test_the_edge_of_stability():
    as_claimed = {"P1-E6 MLP": REPRODUCED, "P1-R9 MLP": REPRODUCED}
    assert verdicts("gd_edge", edge()) == as_claimed
    assert verdicts("gd_edge", edge(bulk=0.6))["P1-E6 MLP"] == PARTLY
    assert verdicts("gd_edge", edge(chi_before=0.5))["P1-R9 MLP"] == PARTLY
    assert verdicts("gd_edge", edge(chi_after=0.05))["P1-R9 MLP"] == PARTLY
    never = verdicts("gd_edge", edge(enters_at=10**6))
    assert never == {"P1-E6 MLP": PARTLY, "P1-R9 MLP": NO_VERDICT}


# Effective learning rates.


def rates(bulk_of_momentum=0.1):
    def of(name, dom, bulk):
        def line(step):
            # Noise that the ratio of the sums averages out, and the mean of ratios not.
            size = 1.0 if step % 2 else 100.0
            return {
                "effective_rate/dom_numerator": dom * size,
                "effective_rate/dom_denominator": size,
                "effective_rate/bulk_numerator": bulk * (size + (-1) ** step),
                "effective_rate/bulk_denominator": size,
            }

        optimizer = {"name": name, "learning_rate": 0.01}
        return make_run([("plain", range(1000), line)], 1, optimizer=optimizer)

    return {
        "sgd": of("sgd", 0.01, 0.0101),
        "heavy_ball": of("heavy_ball", 0.0053, bulk_of_momentum),
        "adam": of("adam", 0.01, 0.02),
    }


def test_effective_rates():
    assert verdicts("effective_rates", rates())["P1-E8 MLP"] == REPRODUCED
    assert verdicts("effective_rates", rates(0.03))["P1-E8 MLP"] == PARTLY
    criteria = EXPERIMENTS["effective_rates"].judge(rates())
    (rate,) = (c for c in criteria if c.text == "heavy-ball: lr_bulk")
    assert rate.values[0] == pytest.approx(0.1)
    assert not any(math.isnan(value) for c in criteria for value in c.values)


# Muon.


def muon(average):
    def line(loss):
        return lambda _: {
            "loss/full": loss,
            "alignment/gradient": 0.8,
            "alignment/average": average,
        }

    steps = range(2000, 4001, 50)
    warmup = ("warmup", range(0, 2000, 50), line(1.0))
    rate = {"learning_rate": 0.02}
    by_rule = make_run([warmup], None, modes=["plain", "dom", "bulk"], optimizer=rate)
    losses = {"plain": 0.4, "dom": 1.0, "bulk": 0.41}
    branches = [(name, steps, line(loss)) for name, loss in losses.items()]
    forced = make_run([warmup, *branches], 2000, switch={"step": 2000}, optimizer=rate)
    return {"switch_step=0": by_rule, "switch_step=2000": forced}


def test_muon_that_never_meets_the_switch_rule():
    found = verdicts("muon", muon(average=0.9))
    assert found == {"P1-E2 Muon": REPRODUCED, "P1-E13 Muon": REPRODUCED}
    assert verdicts("muon", muon(average=0.97))["P1-E2 Muon"] == NOT_REPRODUCED
    criteria = EXPERIMENTS["muon"].judge(muon(average=0.9))
    assert "the moving average reached 0.900" in criteria[0].note


# How wrong the subspace may be.


def sensitivity(dom, bulk):
    """Runs by interval, with each one's losses of Dom and Bulk beside SGD's 0.8."""

    def line(loss, angle):
        return lambda _: {
            "loss/full": loss,
            "alignment/gradient": 0.9,
            "exact/alignment_gradient": 0.8,
            "exact/angle": angle,
            "exact/overlap": math.cos(angle) ** 2,
        }

    def of(interval):
        steps = range(1500, 3001, 50)
        losses = {"plain": 0.8, "dom": dom[interval], "bulk": bulk[interval]}
        angle = interval / 1000
        branches = [(name, steps, line(loss, angle)) for name, loss in losses.items()]
        warmup = ("warmup", range(0, 1500, 50), line(1.0, angle))
        subspace = {"k": 2, "refresh_every": interval}
        return make_run([warmup, *branches], 1500, seeds=2, subspace=subspace)

    return {f"refresh_every={interval}": of(interval) for interval in dom}


def test_sensitivity_counts_the_bases_that_serve():
    runs = sensitivity({10: 1.0, 100: 0.9}, {10: 0.8, 100: 0.9})
    experiment = EXPERIMENTS["sensitivity_interval"]
    found = {one.text: one for one in experiment.judge(runs)}
    assert all(plot.curves for plot in experiment.plots(runs))
    sine = found["every 100 steps, sine of the angle to the exact space, mean"]
    assert sine.values == pytest.approx([math.sin(0.1)] * 2)
    stalls = found["share of the bases: Dom stalls: L_end / L_sw ≥ 0.95"]
    assert stalls.values == (0.5,)
    assert stalls.note == "not with: every 100 steps"
    matches = found["share of the bases: L_end of Bulk within 2 % of SGD's"]
    assert matches.values == (0.5,)
    assert matches.note == "not with: every 100 steps"
