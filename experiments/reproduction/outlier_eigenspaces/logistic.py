"""Logistic regression on a Gaussian mixture: P3-E1, E3, E4 and E9."""

import numpy as np

from experiments import mixture_theory as theory
from experiments.reproduction.curves import density_map
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, at_most, held_to
from experiments.reproduction.outlier_eigenspaces.classes import (
    THEOREM,
    classes,
    spectrum,
)
from experiments.reproduction.outlier_eigenspaces.lines import (
    MATRICES,
    by_snr,
    count_outliers,
    last,
    over_time,
)
from experiments.reproduction.plots import Axis, Curve, Map, Panel, Plot

# Alignment, P3-E1 and E4.

ALIGNS = Claim(
    "P3-E1",
    THEOREM,
    "Each class' parameters come to lie in E_k of their block, of the Hessian and of "
    "the gradients' second moment.",
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
                values = last(run, classes(matrix, split, "alignment")).mean(axis=1)
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
            values = last(run, classes(matrix, "test", "alignment_first")).mean(axis=1)
            text = f"{name}, λ = {ratio:g}: |cos(x^c, u_1)|"
            criteria.append(Criterion(ALIGNS.id, text, tuple(values), None))
    run = of_ratios[max(of_ratios)]
    k = run.config["task"]["num_components"]
    expected = theory.alignment_with_first(k)
    values = last(run, classes("hessian", "test", "alignment_first")).mean(axis=1)
    text = f"λ = {max(of_ratios):g}: |cos(x^c, u_1)|, {expected:.4f} ± 0.02"
    criteria.append(
        held_to(FIRST.id, text, list(values), lambda mean: abs(mean - expected) <= 0.02)
    )
    beside = last(run, classes("hessian", "test", "with_means"))
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
            for x, y in over_time(run, classes(matrix, split, "alignment"))
        ]
        title = f"Alignment of the classes, {which}"
        plots.append(Plot(title, "T = steps / d", "align(x^c, E_k), mean of c", curves))
    highest = max(by_snr(runs))
    run, of_first = by_snr(runs)[highest], f"of the first class, λ = {highest:g}"
    plots.append(spectrum(run, f"Spectrum {of_first}"))
    plots.append(density_map(run, f"Density {of_first}", "block_density", "over_x"))
    curves = [
        Curve(f"λ = {ratio:g}", x, y)
        for ratio, run in by_snr(runs).items()
        for x, y in over_time(run, "accuracy/test")
    ]
    plots.append(Plot("Test accuracy", "T = steps / d", "accuracy", curves))
    return plots


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
        in_span = last(run, classes("hessian", "test", "in_span"))
        inside = in_span[..., :k].mean(axis=(1, 2))
        outside = in_span[..., k:].mean(axis=(1, 2))
        text = f"{kind} means: mean |P_S u_i|² of the leading {k}"
        criteria.append(at_least(MEANS.id, text, inside, 0.9))
        for matrix, name in MATRICES.items():
            found = last(run, classes(matrix, "test", "eigenvalues"))
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
        squares = last(run, classes("hessian", "test", "with_means"))[0]
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
            last(ends[fresh], classes(matrix, "train", "alignment")).mean(axis=1)
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
            for x, y in over_time(run, classes(matrix, "train", "alignment")):
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
        "class_means", "Eigenvectors and means", (MEANS,), _judge_means, _plots_means
    ),
    Experiment(
        "multi_pass", "One pass and many", (PASSES,), _judge_passes, _plots_passes
    ),
)
