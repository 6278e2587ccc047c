"""Judges of what pays, and of cheaper bases, on made-up runs with made-up costs."""

import math

import pytest

from experiments.reproduction import sharp_flat
from experiments.reproduction.experiment import (
    NO_VERDICT,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
)
from experiments.reproduction.sharp_flat import bases, pays, prices, unit_costs
from tests.experiments.made_up import make_run, verdicts_of

EXPERIMENTS = {one.name: one for one in sharp_flat.EXPERIMENTS}
COLD = 7  # products of the first solve


def priced(name, mode, halves_each, products_each=0, rho=0.0, **weights):
    """A run whose loss halves in so many steps, and whose products grow in steps."""
    costs = {
        "seconds/plain_step": 0.001,
        f"seconds/{mode}_step": 0.001 if mode == "plain" else 0.003,
        "seconds/product": 0.01,
    }

    def line(step):
        return {
            "loss/full": 2.0 ** -(step / halves_each),
            "cost/matvecs": COLD + products_each * step,
        }

    optimizer = {"name": name, "learning_rate": 0.1, "sam_rho": rho}
    run = make_run(
        [("warmup", range(0, 200, 50), line), (mode, range(200, 1001, 50), line)],
        200,
        optimizer=optimizer,
        modes=[mode],
        switch={"step": 200},
        projection={"dom": 1.0, "bulk": 1.0, **weights},
        subspace={"curvature": "hessian", "num_examples": 0, "refresh_every": 0},
    )
    extra = {"branch": unit_costs.PART, "seed": 0, "step": 0, **costs}
    return run._replace(lines=[*run.lines, extra])


def price_of(run, loss=0.25):
    """The price beside plain SGD's; the costs of both are made up the same."""
    costs = prices.costs_of({"plain": priced("sgd", "plain", 170), "run": run})
    return prices.price(run, loss, costs)


def test_the_price_of_a_loss():
    # A quarter after twice as many steps, between two lines: 2 x 170 = 340.
    assert price_of(priced("sgd", "plain", 170)) == pytest.approx((340, 0, 340, 0.34))
    other = price_of(priced("sgd", "interpolated", 110, 0.1))
    # 220 steps, 200 of them before the switch. The line after, at 250, has spent 5
    # products since the switch; and there is a solve from scratch.
    assert other.steps == pytest.approx(220)
    assert other.products == pytest.approx(5 + COLD)
    assert other.seconds == pytest.approx(200 * 0.001 + 20 * 0.003 + 12 * 0.01)
    assert other.gradients == pytest.approx(220 + 12 * 0.01 / 0.001)
    # Before the switch nothing is solved for.
    early = price_of(priced("sgd", "interpolated", 90, 0.1))
    assert (early.products, early.seconds) == pytest.approx((0, 180 * 0.001))
    # SAM takes two gradients a step.
    assert price_of(priced("sgd", "plain", 170, rho=0.05)).gradients == 680
    assert price_of(priced("sgd", "plain", 1e6)).steps == math.inf


def test_costs_are_medians_of_a_kind():
    runs = {str(slow): on_basis(100, slow=slow) for slow in (0.01, 0.02, 0.9)}
    runs |= {"few": on_basis(100, slow=0.001, num_examples=200)}
    runs |= {"plain": priced("sgd", "plain", 170)}
    costs = prices.costs_of(runs)
    assert prices.product_seconds(runs["0.9"], costs) == pytest.approx(0.015)
    assert prices.product_seconds(runs["few"], costs) == pytest.approx(0.001)
    assert costs.gradient == pytest.approx(0.001)
    del runs["plain"]
    with pytest.raises(ValueError, match="no run is plain SGD's"):
        prices.costs_of(runs)


def test_what_pays_in_steps_need_not_pay_in_time():
    experiment = EXPERIMENTS["time_to_loss"]
    runs = {
        "plain": priced("sgd", "plain", 170),
        "slow plain": priced("sgd", "plain", 400),
        "bulk": priced("sgd", "interpolated", 110, products_each=1.0, bulk=4.0),
    }
    assert pays.target(runs, "SGD") == pytest.approx(1.05 * 2.0 ** -(1000 / 170))
    found = verdicts_of(experiment, runs)
    assert found == {"P2 steps": REPRODUCED, "P2 time": NOT_REPRODUCED}
    runs["bulk"] = priced("sgd", "interpolated", 20, products_each=0.01, bulk=4.0)
    assert verdicts_of(experiment, runs)["P2 time"] == REPRODUCED


def test_each_optimizer_has_its_own_target():
    experiment = EXPERIMENTS["time_to_loss"]
    runs = {
        "plain": priced("sgd", "plain", 170),
        "bulk": priced("sgd", "interpolated", 110, products_each=1.0, bulk=4.0),
        "plain Adam": priced("adam", "plain", 50),
        "bulk Adam": priced("adam", "interpolated", 60, bulk=4.0),
    }
    assert pays.target(runs, "Adam") == pytest.approx(1.05 * 2.0**-20)
    assert verdicts_of(experiment, runs)["P2 steps"] == PARTLY
    criteria = experiment.judge(runs)
    to_one = {c.text: c.values for c in criteria if c.text.startswith("seconds to SGD")}
    assert len(to_one) == 4
    steps = 170 * math.log2(1 / pays.target(runs, "SGD"))
    assert to_one["seconds to SGD's 0.0178: SGD, plain"] == pytest.approx(
        (steps * 0.001,), rel=1e-3
    )
    # One that never gets there is said to lose, not left out.
    runs["bulk Adam"] = priced("adam", "interpolated", 1e6, bulk=4.0)
    ratios = [c for c in experiment.judge(runs) if c.text.startswith("Adam: steps")]
    assert [(c.values, c.holds) for c in ratios] == [((math.inf,), False)]


def on_basis(halves_each, products_each=0.1, slow=0.01, **subspace):
    """An interpolated run with a basis, whose products take `slow` seconds."""
    run = priced("sgd", "interpolated", halves_each, products_each, bulk=4.0)
    config = {**run.config, "task": {"num_train": 5000}}
    config["subspace"] = {"curvature": "hessian", "num_examples": 0, **subspace}
    costs = run.lines[-1] | {"seconds/product": slow}
    return run._replace(config=config, lines=[*run.lines[:-1], costs])


def test_bases_at_equal_time():
    experiment = EXPERIMENTS["cheaper_bases"]
    runs = {
        "plain": priced("sgd", "plain", 170),
        "all": on_basis(100),
        "slow": on_basis(120),
        "few": on_basis(100, slow=0.001, num_examples=200),
        "updates": on_basis(100, slow=0.0001, curvature="updates", window=50),
    }
    costs = prices.costs_of(runs)
    assert bases.time_of(runs, costs) == pytest.approx(1.0)  # 1,000 steps of 1 ms
    # 200 plain steps, n of 3 ms, and a tenth of a product of 10 ms each of these, and
    # the first solve: 0.2 + 0.003 n + 0.001 n + 0.07 = 1, n = 182.5; after 382.5 steps
    # it has 2^-3.825.
    assert bases.loss_at(runs["all"], 1.0, costs) == pytest.approx(2**-3.825, rel=1e-3)
    found = bases.best(runs, costs)
    assert list(found) == [
        "Hessian, 5,000 examples",
        "Hessian, 200 examples",
        "the last 50 updates",
    ]
    assert found["Hessian, 5,000 examples"].run is runs["all"]
    assert verdicts_of(experiment, runs) == {"P2 bases": REPRODUCED}
    del runs["updates"]
    runs["few"] = on_basis(200, slow=0.001, num_examples=200)
    assert verdicts_of(experiment, runs) == {"P2 bases": NOT_REPRODUCED}


def test_a_basis_that_costs_more_than_all_there_is():
    runs = {
        "plain": priced("sgd", "plain", 170),
        "all": on_basis(100, slow=10.0),
        "few": on_basis(100, num_examples=200),
    }
    found = verdicts_of(EXPERIMENTS["cheaper_bases"], runs)
    assert found == {"P2 bases": REPRODUCED}


def test_without_unit_costs_it_says_so():
    run = priced("sgd", "plain", 170)
    with pytest.raises(ValueError, match="unit costs have not been measured"):
        prices.costs_of({"run": run._replace(lines=run.lines[:-1])})


def test_a_target_that_is_no_progress_gives_no_verdict():
    rising = priced("sgd", "plain", -300)
    runs = {"plain": rising, "bulk": priced("sgd", "interpolated", 110, bulk=4.0)}
    found = verdicts_of(EXPERIMENTS["time_to_loss"], runs)
    assert found == {"P2 steps": NO_VERDICT, "P2 time": NO_VERDICT}


def test_a_run_that_diverged_has_no_loss_at_a_later_time():
    run = on_basis(100)
    status = {**run.status, "branches": {"interpolated": {"status": "diverged"}}}
    run = run._replace(status=status)
    costs = prices.costs_of({"run": run, "plain": priced("sgd", "plain", 170)})
    assert bases.loss_at(run, 1.0, costs) < 1  # not yet
    assert bases.loss_at(run, 100.0, costs) == math.inf
