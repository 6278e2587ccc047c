"""Logistic regression on a Gaussian mixture: P3-E1 to E4, E8 and E9."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import mixture_theory as theory
from experiments.reproduction.curves import density_map
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, at_most, held_to
from experiments.reproduction.outlier_eigenspaces.lines import (
    GAP,
    MATRICES,
    by_snr,
    count_outliers,
    field,
    first,
    last,
    over_time,
)
from experiments.reproduction.plots import Axis, Curve, Level, Map, Panel, Plot

_THEOREM = "Theorem 3.1; criterion ours"

# Alignment, P3-E1 and E4.

ALIGNS = Claim(
    "P3-E1",
    _THEOREM,
    "Each class' parameters come to lie in the outlier space of their block, of the "
    "Hessian and of the gradients' second moment.",
)
FIRST = Claim(
    "P3-E4",
    "Theorem 3.3; number ours",
    "With the single largest outlier the cosine is sqrt((k - 1) / k).",
)

_BOUNDS = {
    ("hessian", 100.0): 0.98,
    ("second_moment", 100.0): 0.94,
    ("hessian", 10.0): 0.90,
    ("second_moment", 10.0): 0.85,
}
_SETS = {"test": "test set", "train": "another set"}
"""With fresh examples no step sees the training set: `multi_pass` is for that."""

_ENOUGH = 50
"""The time from which on the bounds hold."""


def _classes(matrix: str, split: str, key: str) -> str:
    return field("classes", matrix, split, key)


def _ended_early(run: Run) -> str:
    """Say that a run was too short for the bounds, or nothing."""
    end = run.config["steps"] * run.config["optimizer"]["learning_rate"]
    return f"the run ends at T = {end:g}" if round(end) < _ENOUGH else ""


def _judge_alignment(runs: Runs) -> list[Criterion]:
    criteria = []
    of_ratios = by_snr(runs)
    for split, which in _SETS.items():
        missing = {}
        for matrix, name in MATRICES.items():
            for ratio, run in of_ratios.items():
                values = last(run, _classes(matrix, split, "alignment")).mean(axis=1)
                missing[matrix, ratio] = 1 - values
                text = f"{name}, {which}, λ = {ratio:g}: align(x^c, E_k), mean of c"
                bound, note = _BOUNDS[matrix, ratio], _ended_early(run)
                criteria.append(at_least(ALIGNS.id, text, values, bound, note))
            low, high = min(of_ratios), max(of_ratios)
            criteria.append(
                at_most(
                    ALIGNS.id,
                    f"{name}, {which}: 1 − align at λ = {high:g} over that at {low:g}",
                    list(missing[matrix, high] / missing[matrix, low]),
                    1,
                )
            )
    for ratio, run in of_ratios.items():
        overlap = last(run, "blocks/classes_test_overlap").mean(axis=1)
        text = f"λ = {ratio:g}: overlap of E_k(H) and E_k(Γ)"
        criteria.append(Criterion(ALIGNS.id, text, tuple(overlap), None))
        # What E_k adds to its first vector: Gamma has one outlier, not k.
        for matrix, name in MATRICES.items():
            values = last(run, _classes(matrix, "test", "alignment_first")).mean(axis=1)
            text = f"{name}, λ = {ratio:g}: |cos(x^c, u_1)|"
            criteria.append(Criterion(ALIGNS.id, text, tuple(values), None))
    run = of_ratios[max(of_ratios)]
    k = run.config["task"]["num_components"]
    expected = theory.alignment_with_first(k)
    values = last(run, _classes("hessian", "test", "alignment_first")).mean(axis=1)
    text = f"λ = {max(of_ratios):g}: |cos(x^c, u_1)|, {expected:.4f} ± 0.02"
    criteria.append(
        held_to(FIRST.id, text, list(values), lambda mean: abs(mean - expected) <= 0.02)
    )
    beside = last(run, _classes("hessian", "test", "with_means"))
    text = "first class: |cos(u_1, μ_1)|"
    values = np.sqrt(beside[:, 0, 0])
    criteria.append(Criterion(FIRST.id, text, tuple(values), None))
    return criteria


def _plots_alignment(runs: Runs) -> list[Panel]:
    plots: list[Panel] = []
    for split, which in _SETS.items():
        curves = [
            Curve(f"{name}, λ = {ratio:g}", x, y)
            for ratio, run in by_snr(runs).items()
            for matrix, name in MATRICES.items()
            for x, y in over_time(run, _classes(matrix, split, "alignment"))
        ]
        title = f"Alignment of the classes, {which}"
        plots.append(Plot(title, "T = steps / d", "align(x^c, E_k), mean of c", curves))
    run = by_snr(runs)[max(by_snr(runs))]
    plots.append(_spectrum(run, "Spectrum of the first class"))
    plots.append(
        density_map(run, "Density of the first class", "block_density", "over_x")
    )
    curves = [
        Curve(f"λ = {ratio:g}", x, y)
        for ratio, run in by_snr(runs).items()
        for x, y in over_time(run, "accuracy/test")
    ]
    plots.append(Plot("Test accuracy", "T = steps / d", "accuracy", curves))
    return plots


def _spectrum(run: Run, title: str) -> Plot:
    """Return the leading eigenvalues of the first class' block of H over time."""
    name = _classes("hessian", "test", "eigenvalues")
    ((x, _), *_) = over_time(run, name)
    k = run.config["task"]["num_components"]
    curves = []
    for i in range(k):
        ((_, y), *_) = over_time(run, name, lambda value, i=i: value[0][i])
        curves.append(Curve(f"λ_1 … λ_{k}", x, y, "plain"))
    num = last(run, name).shape[-1]
    if num == k:
        estimate = _classes("hessian", "test", "next_eigenvalue")
        ((_, y), *_) = over_time(run, estimate, lambda value: value[0])
        curves.append(Curve(f"λ_{k + 1}, an estimate from below", x, y, "tail"))
    for i in range(k, num):
        ((_, y), *_) = over_time(run, name, lambda value, i=i: value[0][i])
        curves.append(Curve(f"λ_{k + 1} and below", x, y, "tail"))
    outlier = _at_zero(run)
    levels = [Level("bulk edge at x = 0, theory", outlier.edge)]
    if outlier.visible:
        levels.append(Level("outliers at x = 0, theory", outlier.eigenvalue))
    return Plot(
        title, "T = steps / d", "eigenvalues of H_cc", curves, levels, log_y=True
    )


def _at_zero(run: Run) -> theory.Outlier:
    task = run.config["task"]
    return theory.outlier_at_zero(task["num_components"], task["snr"], _ratio(run))


def _threshold(run: Run) -> float:
    return theory.threshold_at_zero(run.config["task"]["num_components"], _ratio(run))


def _ratio(run: Run) -> float:
    """Return d / M, of the test set."""
    return run.config["task"]["dimension"] / run.config["task"]["num_test"]


# The signal-to-noise ratio, P3-E2 and E8.

EMERGE = Claim(
    "P3-E2",
    "Theorem 3.2; random-matrix prediction ours",
    "Outliers leave the bulk above a threshold of the signal-to-noise ratio.",
)
RATE = Claim("P3-E8", _THEOREM, "What is missing to full alignment falls as 1/λ.")


def _judge_emergence(runs: Runs) -> list[Criterion]:
    criteria = []
    name = _classes("hessian", "test", "eigenvalues")
    for ratio, run in by_snr(runs).items():
        predicted = _at_zero(run)
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
        ratio: 1 - last(run, _classes("hessian", "test", "alignment")).mean(axis=1)
        for ratio, run in by_snr(runs).items()
    }
    above = [ratio for ratio, run in by_snr(runs).items() if _at_zero(run).visible]
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
        Level("k √(d/M), transition at x = 0", _threshold(any_run), vertical=True)
    ]

    def curve(name: str, values: Callable[[Run], Any]) -> Curve:
        of_seeds = [values(run) for run in of_ratios.values()]
        means = [float(value.mean()) for value in of_seeds]
        errors = [float(np.std(value) / len(value) ** 0.5) for value in of_seeds]
        return Curve(name, ratios, means, points=True, errors=errors)

    missing = curve(
        "at the end",
        lambda run: 1 - last(run, _classes("hessian", "test", "alignment")).mean(1),
    )
    inside = curve(
        "x = 0",
        lambda run: first(run, _classes("hessian", "test", "in_span"))[..., :k].mean(
            (1, 2)
        ),
    )
    fine = np.geomspace(ratios[0], ratios[-1], 200)
    expected = [
        theory.outlier_at_zero(k, ratio, _ratio(any_run)).squared_overlap
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
    return [_spectrum(run, f"λ = {ratio:g}") for ratio, run in by_snr(runs).items()]


# Means, P3-E3.

MEANS = Claim(
    "P3-E3",
    "Sec. 3; criterion ours",
    "The eigenvectors of H's outliers lie in the span of the class means.",
)


def _judge_means(runs: Runs) -> list[Criterion]:
    criteria = []
    for run in runs.values():
        kind = run.config["task"]["means"]
        k = run.config["task"]["num_components"]
        in_span = last(run, _classes("hessian", "test", "in_span"))
        inside = in_span[..., :k].mean(axis=(1, 2))
        outside = in_span[..., k:].mean(axis=(1, 2))
        text = f"{kind} means: mean |P_S u_i|² of the leading {k}"
        criteria.append(at_least(MEANS.id, text, inside, 0.9))
        for matrix, name in MATRICES.items():
            found = last(run, _classes(matrix, "test", "eigenvalues"))
            counts = tuple(count_outliers(found).mean(axis=1))
            num = found.shape[-1]
            text = f"{kind} means, {name}: outliers by gaps among {num} eigenvalues"
            criteria.append(Criterion(MEANS.id, text, counts, None))
        text = f"{kind} means: mean |P_S u_i|² of those after them"
        criteria.append(at_most(MEANS.id, text, outside, 0.5))
    return criteria


def _plots_means(runs: Runs) -> list[Panel]:
    maps: list[Panel] = []
    for run in runs.values():
        squares = last(run, _classes("hessian", "test", "with_means"))[0]
        num, k = squares.shape
        maps.append(
            Map(
                f"{run.config['task']['means'].capitalize()} means",
                Axis("mean of component", [f"μ_{a + 1}" for a in range(k)]),
                Axis("eigenvector of H_11", [f"u_{i + 1}" for i in range(num)]),
                squares,
                "⟨u, μ⟩² / |μ|²",
                limits=(0, 1),
                caption="The first class' block at the end, the first seed.",
            )
        )
    return maps


# Many passes, P3-E9.

PASSES = Claim(
    "P3-E9", "Sec. 5; criterion ours", "With many passes over a set it is the same."
)


def _passes(run: Run) -> float:
    return (
        run.config["steps"] * run.config["batch_size"] / run.config["task"]["num_train"]
    )


def _judge_passes(runs: Runs) -> list[Criterion]:
    ends = {bool(run.config["task"]["fresh"]): run for run in runs.values()}
    criteria = []
    for matrix, name in MATRICES.items():
        one, many = (
            last(ends[fresh], _classes(matrix, "train", "alignment")).mean(axis=1)
            for fresh in (True, False)
        )
        passes = _passes(ends[False])
        text = f"{name}, training set: |align after {passes:.3g} passes − after one|"
        criteria.append(at_most(PASSES.id, text, np.abs(many - one), 0.05))
        for what, values in (("one pass", one), ("many passes", many)):
            text = f"{name}, training set, {what}: align(x^c, E_k)"
            criteria.append(Criterion(PASSES.id, text, tuple(values), None))
    return criteria


def _plots_passes(runs: Runs) -> list[Panel]:
    curves, accuracies = [], []
    for run in runs.values():
        what = "one pass" if run.config["task"]["fresh"] else "many passes"
        for matrix, name in MATRICES.items():
            for x, y in over_time(run, _classes(matrix, "train", "alignment")):
                curves.append(Curve(f"{name}, {what}", x, y))
        for x, y in over_time(run, "accuracy/test"):
            accuracies.append(Curve(what, x, y))
    time = "T = steps / d"
    return [
        Plot("Alignment, training set", time, "align(x^c, E_k), mean of c", curves),
        Plot("Test accuracy", time, "accuracy", accuracies),
    ]


EXPERIMENTS = (
    Experiment(
        "logistic",
        "Classes and their outliers",
        (ALIGNS, FIRST),
        _judge_alignment,
        _plots_alignment,
    ),
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
    Experiment(
        "class_means", "Eigenvectors and means", (MEANS,), _judge_means, _plots_means
    ),
    Experiment(
        "multi_pass", "One pass and many", (PASSES,), _judge_passes, _plots_passes
    ),
)
