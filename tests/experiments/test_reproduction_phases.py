"""Phase diagrams from made-up runs: matrices, boundaries and how they agree."""

import itertools
import math

import numpy as np
import pytest

from experiments.reproduction.boundaries import (
    agreement,
    boundary,
    predict,
    predicted_boundary,
)
from experiments.reproduction.experiment import Run
from experiments.reproduction.phase import (
    by_seed,
    diagram,
    diverged_in,
    matrix,
    ratio_in,
)
from experiments.reproduction.plots import Axis

RATE, SIZE = "optimizer.learning_rate", "batch_size"


def make_run(outcomes, rate=0.1, size=10, seed=0, losses=(), **fields):
    """A run whose seeds end as (warm-up, plain) say, with losses after 1.0 before."""
    warmup = [{"status": of_warmup} for of_warmup, _ in outcomes]
    plain = [{"status": of_plain} for _, of_plain in outcomes]
    switches = [
        5 if told["status"] not in ("not started", "running") else None
        for told in plain
    ]
    config = {
        "seed": seed,
        "seeds": len(plain),
        "modes": ["plain"],
        "report_window": 2,
        "optimizer": {"learning_rate": rate},
        "batch_size": size,
        **fields,
    }
    several = len(plain) > 1
    status = {
        "status": "finished",
        "switch_step": switches if several else switches[0],
        "branches": {
            "warmup": warmup if several else warmup[0],
            "plain": plain if several else plain[0],
        },
    }
    lines = []
    for index, loss in enumerate(losses):
        of = {"seed": seed + index}
        lines += [
            {**of, "branch": "warmup", "step": s, "loss/full": 2.0} for s in (4, 5)
        ]
        lines.append({**of, "branch": "plain", "step": 5, "loss/full": 7.0})
        lines += [
            {**of, "branch": "plain", "step": 8 + s, "loss/full": loss + s}
            for s in (0, 1)
        ]
    return Run(config, status, lines, [])


FINE, BAD = ("finished", "finished"), ("finished", "diverged")


def test_a_diagram_has_the_fields_in_order_and_gaps_where_no_run_was():
    runs = {
        "a": make_run([BAD, FINE], rate=1.0, size=10),
        "b": make_run([FINE, FINE], rate=0.1, size=250),
        "c": make_run([FINE], rate=0.1, size=10, seed=0),
        "d": make_run([BAD], rate=0.1, size=10, seed=1),
    }
    found = diagram(runs, RATE, SIZE, diverged_in("plain"))
    assert (found.x, found.y) == ((0.1, 1.0), (10, 250))
    assert found.numbers == (((0.0, 1.0), (1.0, 0.0)), ((0.0, 0.0), ()))
    np.testing.assert_array_equal(matrix(found), [[0.5, 0.5], [0, np.nan]])
    np.testing.assert_array_equal(matrix(found, max), [[1, 1], [0, np.nan]])
    np.testing.assert_array_equal(
        by_seed(found), [[[0, 1], [0, np.nan]], [[1, 0], [0, np.nan]]]
    )


def test_fields_that_are_no_numbers_stay_in_the_order_of_the_runs():
    names = ("sgd", "adam", None)
    runs = {str(i): make_run([FINE], momentum=name) for i, name in enumerate(names)}
    found = diagram(runs, "momentum", SIZE, diverged_in("plain"))
    assert found.x == ("sgd", "adam", "None")


def test_runs_that_share_a_cell_by_mistake_are_refused():
    runs = {"a": make_run([FINE]), "b": make_run([FINE], seed=1, width=3)}
    with pytest.raises(ValueError, match=r"'a' and 'b' are in one cell, but .* width"):
        diagram(runs, RATE, SIZE, diverged_in("plain"))
    with pytest.raises(ValueError, match=r"unknown field 'lr'; .*batch_size, modes"):
        diagram(runs, "lr", SIZE, diverged_in("plain"))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (FINE, 0.0),
        (BAD, 1.0),
        (("diverged", "not started"), 1.0),
        (("finished", "not started"), math.nan),
        (("finished", "running"), math.nan),
    ],
)
def test_which_seeds_diverged(outcome, expected):
    numbers = diverged_in("plain")(make_run([outcome, FINE, BAD]))
    np.testing.assert_array_equal(numbers, [expected, 0.0, 1.0])
    np.testing.assert_array_equal(diverged_in("plain")(make_run([outcome])), [expected])


def test_a_run_that_diverged_before_any_branch_counts_and_unknown_branches_do_not():
    run = make_run([("diverged", "not started")] * 2)
    del run.status["branches"]["plain"]
    assert diverged_in("plain")(run) == [1.0, 1.0]
    assert diverged_in("warmup")(run) == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"unknown branch 'dom'; .*: plain, warmup"):
        diverged_in("dom")(run)


def test_the_loss_at_the_end_over_that_at_the_switch():
    outcomes = [FINE, BAD, ("finished", "not started"), FINE]
    run = make_run(outcomes, seed=3, losses=(1.0, 1.0, 1.0, 4.0))
    # (1 + 2) / 2 over 2, and (4 + 5) / 2 over 2.
    expected = [0.75, math.inf, math.nan, 2.25]
    np.testing.assert_allclose(ratio_in("plain")(run), expected)


# Boundaries.

X, Y = Axis("x", (1.0, 10.0, 100.0), "log"), Axis("y", (0.0, 1.0))


def test_the_measured_boundary_goes_along_the_edges_of_cells():
    curve = boundary("b", np.array([[0.0, 0.4, 1.0], [0.0, 0.5, 1.0]]), X, Y)
    points = list(zip(curve.x, curve.y, strict=True))
    edge, after = math.sqrt(10), math.sqrt(1000)
    corners = [(after, -0.5), (after, 0.5), (edge, 0.5), (edge, 1.5)]
    assert points in (
        [pytest.approx(corner) for corner in corners],
        [pytest.approx(corner) for corner in corners[::-1]],
    )


def test_there_is_no_boundary_beside_what_is_unknown():
    curve = boundary("b", np.array([[0.0, np.nan, 1.0], [0.0, np.nan, 1.0]]), X, Y)
    assert len(curve.x) == len(curve.y) == 0


def test_the_boundary_has_each_side_between_cells_once():
    share = np.random.default_rng(0).integers(0, 2, (9, 12)).astype(float)
    x, y = Axis("", range(12)), Axis("", range(9))
    curve = boundary("b", share, x, y)
    points = np.array([curve.x, curve.y]).T
    sides = {
        tuple(sorted([tuple(a), tuple(b)]))
        for a, b in itertools.pairwise(points)
        if not np.isnan([a, b]).any()
    }
    steps = np.abs(np.diff(points, axis=0)).sum(axis=1)
    assert np.nansum(steps) == np.sum(~np.isnan(steps)) == len(sides)
    assert len(sides) == np.sum(share[1:] != share[:-1]) + np.sum(
        share[:, 1:] != share[:, :-1]
    )
    # Joined: far fewer gaps than sides.
    assert np.isnan(curve.x).sum() < len(sides) / 2


def test_the_predicted_boundary_is_where_the_margin_is_zero():
    rates, momenta = Axis("", (0.01, 0.1, 1.0), "log"), Axis("", (0.0, 0.4, 0.8))
    curve = predicted_boundary("p", lambda r, b: 20 * r - 2 * (1 + b), rates, momenta)
    x, y = np.array(curve.x), np.array(curve.y)
    np.testing.assert_allclose(20 * x, 2 * (1 + y), rtol=1e-3)
    np.testing.assert_allclose(sorted([y[0], y[-1]]), [-0.2, 1.0], atol=1e-9)
    # Two lines, with a gap between them; and through zero.
    square = Axis("", (-10.0, 0.0, 10.0), "symlog", 0.1)
    curve = predicted_boundary("p", lambda x, y: x**2 - 1 + 0 * y, square, square)
    assert np.isnan(curve.x).sum() == 1
    np.testing.assert_allclose(np.abs(curve.x)[~np.isnan(curve.x)], 1, rtol=1e-2)
    empty = predicted_boundary("p", lambda x, y: 1.0, square, square)
    assert len(empty.x) == 0


def test_a_margin_needs_numbers():
    names = Axis("optimizer", ("sgd", "adam"))
    for find in (predict, lambda m, x, y: predicted_boundary("p", m, x, y)):
        with pytest.raises(ValueError, match="'optimizer' has names"):
            find(lambda x, y: x, names, Y)
    with pytest.raises(ValueError, match="not a number in some cells"):
        predict(lambda x, y: np.where(y > 0.5, np.nan, x), X, Y)


def test_agreement_counts_both_errors():
    share = np.array([[0.0, 0.4, 0.5, 1.0], [np.nan, 1.0, 1.0, 0.0]])
    predicted = np.array([[False, True, False, True], [True, False, True, False]])
    found = agreement(share, predicted)
    assert found.num_cells == 7
    assert found.stable_but_diverged == pytest.approx(2 / 7)
    assert found.diverged_but_stable == pytest.approx(1 / 7)
    assert found.right == pytest.approx(4 / 7)
    assert found.constant == pytest.approx(4 / 7)
    nothing = agreement(np.full((1, 2), np.nan), np.zeros((1, 2), bool))
    assert nothing.num_cells == 0
    assert math.isnan(nothing.right)
    with pytest.raises(ValueError, match=r"\(2, 4\), but predicted \(4,\)"):
        agreement(share, predicted[0])


def test_the_edge_of_heavy_ball_agrees_with_the_eigenvalues_of_its_steps():
    """On a quadratic, with curvature 20; of each cell, whether its steps contract."""
    rates, momenta = np.geomspace(0.01, 1, 12), np.linspace(-0.2, 0.9, 8)
    radius = np.array(
        [
            [
                np.abs(np.linalg.eigvals([[1 + b - 20 * r, -b], [1, 0]])).max()
                for r in rates
            ]
            for b in momenta
        ]
    )
    x, y = Axis("", rates.tolist(), "log"), Axis("", momenta.tolist())
    share = (radius > 1).astype(float)

    def margin(rate, momentum):
        return 20 * rate - 2 * (1 + momentum)

    assert agreement(share, predict(margin, x, y)).right == 1
    wrong = agreement(share, predict(lambda r, b: 20 * r - 2, x, y))
    assert wrong.right < 1
    assert wrong.diverged_but_stable > 0
    # The measured boundary is no further from the predicted one than a cell is wide.
    measured = boundary("", share, x, y)
    off = np.log(np.array(measured.x) * 20 / (2 * (1 + np.array(measured.y))))
    assert np.abs(off).max() < np.log(rates[1] / rates[0]) + np.log(1.2)
