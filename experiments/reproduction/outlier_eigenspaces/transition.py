"""Logistic regression over the signal-to-noise ratio: P3-E2 and E8."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from experiments import mixture_theory as theory
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, at_most, held_to
from experiments.reproduction.outlier_eigenspaces.classes import (
    THEOREM,
    at_zero,
    classes,
    ratio_of,
    spectrum,
    threshold,
)
from experiments.reproduction.outlier_eigenspaces.lines import (
    GAP,
    by_snr,
    count_outliers,
    first,
    last,
)
from experiments.reproduction.plots import Curve, Level, Panel, Plot

EMERGE = Claim(
    "P3-E2",
    "Theorem 3.2; random-matrix prediction ours",
    "Outliers leave the bulk above a threshold of the signal-to-noise ratio.",
)
RATE = Claim("P3-E8", THEOREM, "What is missing to full alignment falls as 1/λ.")


def _judge_emergence(runs: Runs) -> list[Criterion]:
    criteria = []
    name = classes("hessian", "test", "eigenvalues")
    for ratio, run in by_snr(runs).items():
        predicted = at_zero(run)
        k = run.config["task"]["num_components"]
        # Of all classes: at x = 0 they have one and the same block.
        spectra = first(run, name)
        gaps = (spectra[..., k - 1] / spectra[..., k]).mean(axis=1)
        above = (spectra > GAP * predicted.edge).sum(axis=-1).mean(axis=1)
        number = k if predicted.visible else 0
        text = (
            f"λ = {ratio:g}, T = 0: outliers above {GAP:g} of theory's edge, {number}"
        )
        at_edge = functools.partial(operator.eq, number)
        criteria.append(held_to(EMERGE.id, text, list(above), at_edge))
        if predicted.visible:
            outliers = spectra[..., :k].mean(axis=(1, 2)) / predicted.eigenvalue
            text = f"λ = {ratio:g}, T = 0: mean outlier over theory's, 1 ± 0.05"
            criteria.append(
                held_to(EMERGE.id, text, list(outliers), lambda m: abs(m - 1) <= 0.05)
            )
            text = f"λ = {ratio:g}, above the threshold, T = 0: λ_k / λ_k+1"
            criteria.append(at_least(EMERGE.id, text, gaps, GAP))
        else:
            text = f"λ = {ratio:g}, below the threshold, T = 0: λ_k / λ_k+1"
            criteria.append(at_most(EMERGE.id, text, gaps, GAP))
        for when, of_time in (("T = 0", spectra), ("at the end", last(run, name))):
            counts = count_outliers(of_time).mean(axis=1)
            text = f"λ = {ratio:g}, {when}: outliers of a block, by gaps"
            criteria.append(Criterion(EMERGE.id, text, tuple(counts), None))
    return criteria


def _judge_sweep(runs: Runs) -> list[Criterion]:
    criteria = []
    missing = {
        ratio: 1 - last(run, classes("hessian", "test", "alignment")).mean(axis=1)
        for ratio, run in by_snr(runs).items()
    }
    above = [ratio for ratio, run in by_snr(runs).items() if at_zero(run).visible]
    # A slope a seed.
    logs = np.log(np.array([missing[ratio] for ratio in above]))
    slopes = np.polyfit(np.log(above), logs, 1)[0] if len(above) > 1 else ()
    text = "slope of log(1 − align) over log λ above k √(d/M), in [−1.5, −0.5]"
    criteria.append(held_to(RATE.id, text, slopes, lambda m: -1.5 <= m <= -0.5))
    for ratio, values in missing.items():
        side = "above" if ratio in above else "below"
        text = f"λ = {ratio:g}, {side}: 1 − align(x^c, E_k(H))"
        criteria.append(Criterion(RATE.id, text, tuple(values), None))
    return criteria


_SNR = "signal-to-noise ratio λ"


def _plots_sweep(runs: Runs) -> list[Panel]:
    of_ratios = by_snr(runs)
    ratios, any_run = list(of_ratios), next(iter(of_ratios.values()))
    k = any_run.config["task"]["num_components"]
    transition = [
        Level("k √(d/M), transition at x = 0", threshold(any_run), vertical=True)
    ]

    def curve(name: str, values: Callable[[Run], Any]) -> Curve:
        of_seeds = [values(run) for run in of_ratios.values()]
        means = [float(value.mean()) for value in of_seeds]
        errors = [
            float(stats.sem(value)) if len(value) > 1 else 0.0 for value in of_seeds
        ]
        return Curve(name, ratios, means, points=True, errors=errors)

    missing = curve(
        "at the end",
        lambda run: 1 - last(run, classes("hessian", "test", "alignment")).mean(1),
    )
    inside = curve(
        "x = 0",
        lambda run: first(run, classes("hessian", "test", "in_span"))[..., :k].mean(
            (1, 2)
        ),
    )
    fine = np.geomspace(ratios[0], ratios[-1], 200)
    expected = [
        theory.outlier_at_zero(k, ratio, ratio_of(any_run)).squared_overlap
        for ratio in fine
    ]
    guide = [missing.y[-1] * ratios[-1] / ratio for ratio in ratios]
    return [
        Plot(
            "The outliers' eigenvectors",
            _SNR,
            "|P_S u_i|², mean of i ≤ k",
            [inside, Curve("x = 0, theory, d → ∞", fine.tolist(), expected, "plain")],
            transition,
            log_x=True,
            caption="S is the span of the class means. For large d eigenvectors hold "
            "nothing of it below the transition.",
        ),
        Plot(
            "What is missing",
            _SNR,
            "1 − align(x^c, E_k(H))",
            [missing, Curve("1/λ, as a guide", ratios, guide, "tail")],
            transition,
            log_x=True,
            log_y=True,
        ),
    ]


def _plots_emergence(runs: Runs) -> list[Panel]:
    return [spectrum(run, f"λ = {ratio:g}") for ratio, run in by_snr(runs).items()]


EXPERIMENTS = (
    Experiment(
        "emergence", "Outliers emerge", (EMERGE,), _judge_emergence, _plots_emergence
    ),
    Experiment(
        "snr_sweep",
        "The signal-to-noise ratio",
        (RATE,),
        _judge_sweep,
        _plots_sweep,
    ),
)
