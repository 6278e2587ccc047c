"""The toy quadratic of "Does SGD really happen in tiny subspaces?", judged.

The runs are those of `experiments.toy`; `experiments.toy_theory` has what they are held
to.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments import toy, toy_theory
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Runs
from experiments.reproduction.tiny_subspaces import toy_plots
from experiments.reproduction.tiny_subspaces.toy_series import (
    Branch,
    branch_of,
    energy_ratio_limit,
    exact,
    is_complete,
    mean_from,
    values,
)

_GD_STEP = 100


def judge_quadratic(runs: Runs) -> Sequence[Criterion]:
    """Hold the run with the noise +-c x y to its closed forms."""
    (run,) = runs.values()
    plain, dom, bulk = (branch_of(run, name) for name in ("plain", "dom", "bulk"))
    quadratic, start = run.config["quadratic"], run.config["start"]
    limit = toy_theory.coupled_dom_loss(
        run.config["learning_rate"],
        start[1],
        quadratic["dominant"],
        quadratic["bulk"],
        run.config["noise"]["scale"],
    )

    def dom_loss() -> float:
        return mean_from(dom, "loss/full", _half(dom)) / limit

    criteria = [
        _bounded(
            plain,
            "SGD: E x², E y², E xy off the recursion by <= 5 % at each logged step "
            "(E xy: of the root of E x² E y²)",
            lambda: _worst(plain, ("toy/x2", "toy/y2", "toy/xy")),
            lambda off: off <= 0.05,
        ),
        _bounded(
            dom,
            "Dom-SGD: E x² off the recursion by <= 5 % at each logged step",
            lambda: _worst(dom, ("toy/x2",)),
            lambda off: off <= 0.05,
        ),
        _bounded(
            bulk,
            "Bulk-SGD: E y² off the recursion by <= 5 % at each logged step",
            lambda: _worst(bulk, ("toy/y2",)),
            lambda off: off <= 0.05,
        ),
        _bounded(
            plain,
            # At step 0 the gradient has no dominant part, whatever comes of it.
            "SGD: mean of χ over seeds and steps, from step 1 on, > 0.98",
            lambda: mean_from(plain, "toy/chi", 1),
            lambda chi: chi > 0.98,
        ),
        _gd_criterion(branch_of(run, "gd"), start),
        _gd_criterion(branch_of(run, toy.DISPLACED), run.config["displaced_start"]),
        _bounded(
            dom,
            "Dom-SGD: |y - y_0| = 0, bit for bit, in all seeds at each logged step",
            lambda: float(np.max(np.abs(_extremes(dom) - start[1]))),
            lambda moved: moved == 0,
        ),
        _bounded(
            dom,
            f"Dom-SGD: mean loss, second half of the steps, over {limit:.4g}: 1 ± 0.03",
            dom_loss,
            lambda ratio: abs(ratio - 1) <= 0.03,
        ),
        _bounded(
            bulk,
            "Bulk-SGD: |y / ((1 - lr)^t y_0) - 1| <= 1e-3 in all seeds at each logged "
            "step",
            lambda: _off_decay(bulk),
            lambda off: off <= 1e-3,
        ),
    ]
    return [criterion._replace(claim="P1-E5") for criterion in criteria]


def judge_gaussian(runs: Runs) -> Sequence[Criterion]:
    """Hold the run with isotropic noise to its closed forms."""
    (run,) = runs.values()
    plain = branch_of(run, "plain")
    limit = energy_ratio_limit(run.config)

    def ratio() -> float:
        return mean_from(plain, "toy/energy_ratio", _half(plain))

    criteria = [
        _bounded(
            plain,
            "SGD: E|P g|² / E|g|², second half of the steps, over the closed form's "
            f"{limit:.6f}: 1 ± 0.02",
            lambda: ratio() / limit,
            lambda quotient: abs(quotient - 1) <= 0.02,
        ),
        _bounded(
            plain, "SGD: the same ratio > 0.99", ratio, lambda value: value > 0.99
        ),
        _bounded(
            plain,
            f"SGD: 1 minus the same ratio, over the closed form's {1 - limit:.3e} "
            "(reported: so near 1, the ratio itself is not a sharp test)",
            lambda: (1 - ratio()) / (1 - limit),
            None,
        ),
        _bounded(
            plain,
            "SGD: mean of χ over the same steps (reported: the mean of χ is not the "
            "root of the energy ratio)",
            lambda: mean_from(plain, "toy/chi", _half(plain)),
            None,
        ),
    ]
    return [criterion._replace(claim="P1-R5") for criterion in criteria]


def _bounded(
    branch: Branch,
    text: str,
    measured: Callable[[], float],
    holds: Callable[[float], bool] | None,
) -> Criterion:
    """Measure one number on a branch, if that was run to its end.

    Args:
      branch: which.
      text: what is measured, and its bound.
      measured: the number, NaN if it is not among what was logged.
      holds: whether the bound holds; None of a number that is only reported.
    """
    if not is_complete(branch):
        why = f"the branch {branch.name!r} was not run to its last step"
        return Criterion("", text, (), None, why)
    number = measured()
    if math.isnan(number):
        return Criterion("", text, (), None, "the steps that it needs were not logged")
    return Criterion("", text, (number,), None if holds is None else holds(number))


def _gd_criterion(branch: Branch, start: Sequence[float] | None) -> Criterion:
    place = "" if start is None else f" from ({start[0]:g}, {start[1]:g})"

    def chi() -> float:
        found = values(branch, "toy/chi")[branch.steps == _GD_STEP]
        return float(found[0]) if found.size else math.nan

    return _bounded(
        branch,
        f"GD{place}: χ at step {_GD_STEP} < 1e-3",
        chi,
        lambda chi: chi < 1e-3,
    )


def _half(branch: Branch) -> float:
    return branch.config["steps"] / 2


def _worst(branch: Branch, metrics: Sequence[str]) -> float:
    """Return the largest distance from the recursion, each over its own scale.

    That of E xy is the root of E x^2 E y^2: on the axes E xy is 0 and stays so.
    """
    expected = exact(branch)
    root = np.sqrt(expected["toy/x2"] * expected["toy/y2"])
    scales = expected | {"toy/xy": root}
    worst = 0.0
    for metric in metrics:
        off = np.abs(values(branch, metric) - expected[metric])
        # Both may be 0, at the start; a scale of 0 alone is infinitely far off.
        with np.errstate(divide="ignore"):
            relative = off / np.where(off == 0, 1, scales[metric])
        worst = max(worst, float(np.max(relative)))
    return worst


def _extremes(branch: Branch) -> np.ndarray:
    """Return the smallest and the largest y of all seeds, [2, lines]."""
    return np.stack([values(branch, "toy/y_min"), values(branch, "toy/y_max")])


def _off_decay(branch: Branch) -> float:
    """Return the largest distance of any y from (1 - lr mu)^t y_0, over that."""
    config = branch.config
    factor = 1 - config["learning_rate"] * config["quadratic"]["bulk"]
    expected = config["start"][1] * factor**branch.steps
    return float(np.max(np.abs(_extremes(branch) / expected - 1)))


EXPERIMENTS = (
    Experiment(
        "toy_quadratic",
        "The toy quadratic",
        (
            Claim(
                "P1-E5",
                "Sec. 4, Fig. 8",
                "In an ill-conditioned valley, noise across it aligns SGD's gradient "
                "with the dominant direction; gradient descent loses the alignment. "
                "Dom-SGD makes no progress along the valley, Bulk-SGD does.",
            ),
        ),
        judge_quadratic,
        toy_plots.quadratic,
        toy.run,
    ),
    Experiment(
        "toy_gaussian",
        "The toy quadratic with Gaussian noise",
        (
            Claim(
                "P1-R5",
                "reviews",
                "Isotropic Gaussian gradient noise aligns the gradient too.",
            ),
        ),
        judge_gaussian,
        toy_plots.gaussian,
        toy.run,
    ),
)
"""`toy_quadratic` and `toy_gaussian`."""
