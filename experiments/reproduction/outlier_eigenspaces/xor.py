"""Two layers on the XOR mixture, and on ten components: P3-E5 to E7 and E10."""

import numpy as np
from scipy import stats

from experiments import mixture_theory as theory
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, held_to
from experiments.reproduction.outlier_eigenspaces.lines import (
    at_time,
    by_snr,
    count_outliers,
    field,
    last,
    over_time,
)
from experiments.reproduction.plots import Curve, Level, Panel, Plot

_TIME = "T = steps / d"

# Both layers, P3-E5 and E6.

HIDDEN = Claim(
    "P3-E5",
    "Theorem 4.1; criterion ours",
    "A neuron that lasts comes to lie in the rank-two outlier space of its block.",
)
OUTPUT = Claim(
    "P3-E6",
    "Theorem 4.2; criterion ours",
    "The output layer comes to lie in the outlier space of its block.",
)
_HIDDEN_AT, _OUTPUT_AT = 60, 20
_LARGEST = 4


def _hidden(key: str) -> str:
    return field("hidden", "hessian", "test", key)


def _output(key: str) -> str:
    return field("output", "hessian", "test", key)


def _judge_layers(runs: Runs) -> list[Criterion]:
    criteria = []
    for ratio, run in by_snr(runs).items():
        # A neuron that serves a cluster has |W_i| = |v_i|, and others shrink.
        norms = at_time(run, _hidden("norm"), _HIDDEN_AT)
        aligned = at_time(run, _hidden("alignment"), _HIDDEN_AT)
        largest = np.argsort(-norms, axis=1)[:, :_LARGEST]
        values = np.take_along_axis(aligned, largest, axis=1).min(axis=1)
        text = (
            f"λ = {ratio:g}, T = {_HIDDEN_AT}: align(W_i, E_2), the lowest of the "
            f"{_LARGEST} neurons of the largest |W_i|"
        )
        criteria.append(at_least(HIDDEN.id, text, values, 0.98))
        shares = (aligned >= 0.98).mean(axis=1)
        text = f"λ = {ratio:g}, T = {_HIDDEN_AT}: share of all neurons at 0.98 or more"
        criteria.append(Criterion(HIDDEN.id, text, tuple(shares), None))
        values = at_time(run, _output("alignment"), _OUTPUT_AT)
        text = f"λ = {ratio:g}, T = {_OUTPUT_AT}: align(v, E_4)"
        criteria.append(at_least(OUTPUT.id, text, values, 0.99))
        criteria += _of_second_moment(run, ratio, largest)
        served, _ = served_and_outliers(run)
        text = f"λ = {ratio:g}: clusters served at the end, of 4"
        criteria.append(Criterion(OUTPUT.id, text, tuple(map(float, served)), None))
    return criteria


def _of_second_moment(run: Run, ratio: float, largest: np.ndarray) -> list[Criterion]:
    """Return what is not held to a bound: Gamma, and the outliers that are counted."""
    found = []
    aligned = at_time(
        run, field("hidden", "second_moment", "test", "alignment"), _HIDDEN_AT
    )
    values = np.take_along_axis(aligned, largest, axis=1).min(axis=1)
    text = f"λ = {ratio:g}, T = {_HIDDEN_AT}: the same in Γ's E_2"
    found.append(Criterion(HIDDEN.id, text, tuple(values), None))
    values = at_time(
        run, field("output", "second_moment", "test", "alignment"), _OUTPUT_AT
    )
    text = f"λ = {ratio:g}, T = {_OUTPUT_AT}: align(v, E_4) of Γ"
    found.append(Criterion(OUTPUT.id, text, tuple(values), None))
    for claim, layer in ((HIDDEN, "hidden"), (OUTPUT, "output")):
        overlap = last(run, f"blocks/{layer}_test_overlap")
        if layer == "hidden":
            overlap = np.take_along_axis(overlap, largest, axis=1).mean(axis=1)
        text = f"λ = {ratio:g}: overlap of H's and Γ's outlier spaces at the end"
        found.append(Criterion(claim.id, text, tuple(overlap), None))
    counts = count_outliers(last(run, _hidden("eigenvalues")))
    counts = np.take_along_axis(counts, largest, axis=1).mean(axis=1)
    text = f"λ = {ratio:g}: outliers of these neurons' blocks at the end, by gaps"
    found.append(Criterion(HIDDEN.id, text, tuple(counts), None))
    _, counts = served_and_outliers(run)
    text = f"λ = {ratio:g}: outliers of H_vv at the end, above {_FRACTION} of theory's"
    found.append(Criterion(OUTPUT.id, text, tuple(map(float, counts)), None))
    return found


def _plots_layers(runs: Runs) -> list[Panel]:
    plots: list[Panel] = []
    for ratio, run in by_snr(runs).items():
        curves = [
            Curve("each W_i in E_2", x, y, "plain")
            for i in range(run.config["task"]["num_hidden"])
            for x, y in over_time(run, _hidden("alignment"), lambda v, i=i: v[i])
        ]
        curves += [
            Curve("v in E_4", x, y, "bulk")
            for x, y in over_time(run, _output("alignment"))
        ]
        plots.append(Plot(f"Alignment, λ = {ratio:g}", _TIME, "alignment", curves))
        plots.append(_spectrum(run, f"Output layer, λ = {ratio:g}"))
    return plots


def _spectrum(run: Run, title: str) -> Plot:
    name = _output("eigenvalues")
    num = last(run, name).shape[-1]
    curves = []
    for i in range(num):
        ((x, y), *_) = over_time(run, name, lambda v, i=i: v[i])
        label, role = ("λ_1 … λ_4", "plain") if i < 4 else ("λ_5 …", "tail")
        curves.append(Curve(label, x, y, role))
    level = theory.output_eigenvalue(run.config["task"]["ridge"])
    levels = [Level("theory, λ → ∞, each served cluster", level)]
    return Plot(title, _TIME, "eigenvalues of H_vv", curves, levels, log_y=True)


# How often, P3-E7.

LAW = Claim(
    "P3-E7",
    "Theorem 4.2 and Ben Arous et al. 2022",
    "Four neurons find the optimal classifier in 3/32 of the runs.",
)
WHOLE = Claim(
    "P3-E7 law",
    "derived from Ben Arous et al. 2022",
    "Each neuron goes to one of the four clusters with equal chance.",
)
COUNT = Claim(
    "P3-E7 spectrum",
    "Theorem 4.2; criterion ours",
    "The output layer's block has an outlier for each served cluster.",
)
_FRACTION = 0.3
"""Of theory's eigenvalue: what is above counts as an outlier."""


def served_and_outliers(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return how many clusters each seed serves, and how many outliers H_vv has.

    Served is a cluster whose log-odds at its mean exceed half of those at the fixed
    point.
    """
    ridge = run.config["task"]["ridge"]
    margins = last(run, "components/margin")
    served = (margins > theory.weight_of_cluster(ridge) / 2).sum(axis=1)
    values = last(run, _output("eigenvalues"))
    threshold = _FRACTION * theory.output_eigenvalue(ridge)
    return served, (values > threshold).sum(axis=1)


def _judge_law(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    served, outliers = served_and_outliers(run)
    num = len(served)
    law = theory.served_law(run.config["task"]["num_hidden"])
    optimal = int((served == 4).sum())
    error = np.sqrt(law[4] * (1 - law[4]) / num)
    interval = stats.binomtest(optimal, num).proportion_ci(0.95, "wilson")
    note = (
        f"{optimal} of {num} runs; 95 % confidence interval {interval.low:.3f} to "
        f"{interval.high:.3f} (Wilson); theory {law[4]:.4f}"
    )
    text = f"share of optimal runs within 3 standard errors ({3 * error:.3f}) of theory"
    return [
        held_to(
            LAW.id,
            text,
            (served == 4).astype(float),
            lambda mean: abs(mean - law[4]) <= 3 * error,
            note,
        ),
        _whole_law(served, law),
        *(
            Criterion(
                WHOLE.id,
                f"share of runs with {n} served; theory {law[n]:.3f}",
                (float((served == n).mean()),),
                None,
            )
            for n in range(5)
        ),
        at_least(
            COUNT.id,
            "share of runs with as many outliers as served clusters",
            (served == outliers).astype(float),
            0.95,
        ),
    ]


_UNLIKELY = 0.0027
"""The chance of a normal variable to be 3 standard deviations off."""


def _whole_law(served: np.ndarray, law: list[float]) -> Criterion:
    """Hold the counts of clusters served to the law, by Pearson's test."""
    counts = np.array([(served == n).sum() for n in range(5)])
    possible = np.array(law) > 0
    text = f"p value of the counts of clusters served, χ² ≥ {_UNLIKELY:g}"
    if counts[~possible].any():
        return Criterion(WHOLE.id, text, (0.0,), False, "theory excludes some")
    expected = np.array(law)[possible] * len(served)
    found = stats.chisquare(counts[possible], expected)
    note = f"χ² = {found.statistic:.3g} of {possible.sum() - 1} degrees of freedom"
    return Criterion(
        WHOLE.id, text, (float(found.pvalue),), bool(found.pvalue >= _UNLIKELY), note
    )


def _plots_law(runs: Runs) -> list[Panel]:
    run = runs[ONLY_POINT]
    served, _ = served_and_outliers(run)
    num, law = len(served), theory.served_law(run.config["task"]["num_hidden"])
    shares = [float((served == n).mean()) for n in range(5)]
    errors = [float(np.sqrt(share * (1 - share) / num)) for share in shares]
    eigenvalues = last(run, _output("eigenvalues"))
    ridge = run.config["task"]["ridge"]
    spread = np.linspace(-0.3, 0.3, num)
    points = [
        Curve(
            f"λ_{i + 1}",
            (served + spread).tolist(),
            np.maximum(eigenvalues[:, i], 1e-6),
            points=True,
        )
        for i in range(eigenvalues.shape[1])
    ]
    return [
        Plot(
            "Served clusters",
            "clusters served",
            "share of runs",
            [
                Curve(f"{num} runs", range(5), shares, points=True, errors=errors),
                Curve("theory", range(5), law),
            ],
            caption="Bars are binomial standard errors.",
        ),
        Plot(
            "Eigenvalues of the output layer",
            "clusters served",
            "eigenvalues of H_vv",
            points,
            [
                Level("theory", theory.output_eigenvalue(ridge)),
                Level("counted from here", _FRACTION * theory.output_eigenvalue(ridge)),
            ],
            log_y=True,
            caption="Each run is a column of points, beside those that serve as many. "
            "What is below 1e-6 is drawn there.",
        ),
    ]


# Two layers on ten components, P3-E10.

UNPROVEN = Claim(
    "P3-E10", "ours: there is no proof", "Two layers on ten components align, too."
)


def _judge_unproven(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    norms, aligned = (last(run, _hidden(key)) for key in ("norm", "alignment"))
    weighted = (norms * aligned).sum(axis=1) / norms.sum(axis=1)
    return [
        Criterion(
            UNPROVEN.id,
            "align(W_i, E_10), mean weighed by |W_i|",
            tuple(weighted),
            None,
        ),
        Criterion(
            UNPROVEN.id,
            "align(v, E_10) of the whole output layer",
            tuple(last(run, _output("alignment"))),
            None,
        ),
        Criterion(
            UNPROVEN.id, "test accuracy", tuple(last(run, "accuracy/test")), None
        ),
    ]


def _plots_unproven(runs: Runs) -> list[Panel]:
    run = runs[ONLY_POINT]
    curves = [
        Curve("W_i in E_10, mean", x, y, "plain")
        for x, y in over_time(run, _hidden("alignment"))
    ]
    curves += [
        Curve("v in E_10", x, y, "bulk")
        for x, y in over_time(run, _output("alignment"))
    ]
    return [Plot("Alignment", _TIME, "alignment", curves)]


EXPERIMENTS = (
    Experiment(
        "xor", "Two layers on XOR", (HIDDEN, OUTPUT), _judge_layers, _plots_layers
    ),
    Experiment(
        "success", "How often it succeeds", (LAW, WHOLE, COUNT), _judge_law, _plots_law
    ),
    Experiment(
        "two_layer_mixture",
        "Two layers on ten components",
        (UNPROVEN,),
        _judge_unproven,
        _plots_unproven,
    ),
)
