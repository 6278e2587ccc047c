"""Why the gradient aligns: what its noise has to do with it."""

import itertools
import statistics
from collections.abc import Sequence

from experiments.reproduction.curves import (
    alignment_plot,
    loss_plot,
    metric_curves,
    switches,
)
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    at_most,
    between,
    by_seed,
    ends,
    held_to,
    highest,
    lowest,
    mean,
    series,
)
from experiments.reproduction.plots import Curve, Level, Plot

BATCH_SIZE = Claim(
    "P1-R2", "asked by the reviewers", "The smaller the noise, the lower the alignment."
)
WHY_DOM_RISES = Claim(
    "P1-R8",
    "asked by the reviewers",
    "It is the gradient's noise, not the projection, that keeps Dom-SGD's loss up.",
)
SHARP_NOISE = Claim(
    "P1-R10", "asked by the reviewers", "The noise is larger in the sharp directions."
)


# The noise taken away, and given back.


def _noise_off(name: str, task: str, data: str) -> Experiment:
    """Return the experiment on one task."""
    claim = Claim(
        f"P1-E4 {task}",
        "Sec. 4",
        "Without the gradient's noise the alignment goes; with it, it comes back.",
    )

    def judge(runs: Runs) -> list[Criterion]:
        return _judge_noise_off(runs[ONLY_POINT], claim.id)

    title = f"SGD to GD and back: {task} on {data}"
    return Experiment(name, title, (claim,), judge, _plot_noise_off)


def _judge_noise_off(run: Run, claim: str) -> list[Criterion]:
    first, last = run.config["noise_free_steps"]
    courses = by_seed(run, "plain")
    chi = "alignment/gradient"
    before = [mean(between(lines, chi, first - 200, first)) for lines in courses]
    without = [lowest(between(lines, chi, first, first + 201)) for lines in courses]
    again = [highest(between(lines, chi, last, last + 501)) for lines in courses]
    return [
        at_least(claim, "mean χ_k in SGD's last 200 steps", before, 0.9),
        at_most(claim, "lowest χ_k within 200 steps of GD", without, 0.2),
        at_least(claim, "highest χ_k within 500 steps of SGD", again, 0.9),
    ]


def _plot_noise_off(runs: Runs) -> list[Plot]:
    run = runs[ONLY_POINT]
    first, last = run.config["noise_free_steps"]
    levels = [Level("GD", first, vertical=True), Level("SGD", last, vertical=True)]
    start = first - (last - first)
    plots = []
    for plot in (alignment_plot(run), loss_plot(run)):
        curves = [_from_step(curve, start) for curve in plot.curves]
        shown = [curve for curve in curves if curve.x]
        plots.append(plot._replace(curves=shown, levels=levels))
    return plots


def _from_step(curve: Curve, first: float) -> Curve:
    kept = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if x >= first]
    return curve._replace(
        name="SGD, GD between the lines",
        x=[x for x, _ in kept],
        y=[y for _, y in kept],
        role="plain",
    )


# The batch size.


def _judge_batch_size(runs: Runs) -> list[Criterion]:
    chi, texts = {}, []
    for run in _by_batch_size(runs):
        half = run.config["steps"] / 2
        size = run.config["batch_size"]
        chi[size] = [
            mean(between(lines, "alignment/gradient", half))
            for lines in by_seed(run, "plain")
        ]
        texts.append(
            Criterion(
                BATCH_SIZE.id, f"mean χ_k, batches of {size}", tuple(chi[size]), None
            )
        )
    means = [statistics.fmean(values) for values in chi.values()]
    rises = [max([b - a for a, b in itertools.pairwise(means)], default=0.0)]
    largest = max(chi)
    return [
        *texts,
        at_most(
            BATCH_SIZE.id, "largest rise of χ_k to the next larger batch", rises, 0
        ),
        at_most(
            BATCH_SIZE.id, f"mean χ_k with all {largest} examples", chi[largest], 0.1
        ),
    ]


def _by_batch_size(runs: Runs) -> list[Run]:
    return sorted(runs.values(), key=lambda run: run.config["batch_size"])


def _plot_batch_size(runs: Runs) -> list[Plot]:
    chosen = _by_batch_size(runs)
    curves = [
        curve._replace(name=f"B = {run.config['batch_size']}", role="")
        for run in chosen
        for curve in metric_curves(run, "alignment/gradient")
        if curve.role == "plain"
    ]
    k = chosen[0].config["subspace"]["k"]
    return [Plot("Alignment", "step", f"χ_{k} of the full gradient", curves)]


# Why Dom-SGD's loss does not fall.


def _describe(run: Run) -> str:
    noise = "without noise" if run.config["noise_free_steps"] else "with noise"
    frozen = run.config["subspace"]["refresh_every"] == run.config["switch"]["step"]
    return f"{noise}, basis {'frozen' if frozen else 'tracked'}"


def _judge_why(runs: Runs) -> list[Criterion]:
    ratios = {_describe(run): _ratios(run) for run in runs.values()}
    noisy, quiet = "with noise, basis tracked", "without noise, basis tracked"
    others = [
        Criterion(WHY_DOM_RISES.id, f"Dom {name}: L_end / L_sw", tuple(values), None)
        for name, values in ratios.items()
        if name not in (noisy, quiet)
    ]
    return [
        at_least(WHY_DOM_RISES.id, f"Dom {noisy}: L_end / L_sw", ratios[noisy], 1),
        at_most(WHY_DOM_RISES.id, f"Dom {quiet}: L_end / L_sw", ratios[quiet], 1),
        *others,
    ]


def _ratios(run: Run) -> list[float]:
    return [branch.ratio for branch in ends(run, "dom")]


def _plot_why(runs: Runs) -> list[Plot]:
    def of(metric: str) -> list[Curve]:
        return [
            curve._replace(name=_describe(run), role="")
            for run in runs.values()
            for curve in metric_curves(run, metric)
            if curve.role == "dom"
        ]

    (first, *_) = runs.values()
    levels = switches(first)
    return [
        Plot("Loss of Dom-SGD", "step", "full training loss", of("loss/full"), levels),
        Plot("First order", "step", "⟨g, P Δθ⟩", of("descent/first_dom"), levels),
        Plot(
            "Second order",
            "step",
            "(P Δθ)ᵀ H (P Δθ) / 2",
            of("descent/second_dom"),
            levels,
        ),
    ]


# Noise and curvature.


def _judge_sharp_noise(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    ratios, correlations = [], []
    for lines in by_seed(run, "plain"):
        along = [values for _, values in _later(lines, "noise/along_basis")]
        random = [values for _, values in _later(lines, "noise/along_random")]
        eigenvalues = [values for _, values in _later(lines, "subspace/eigenvalues")]
        ratios.append(
            mean([mean(a) / mean(r) for a, r in zip(along, random, strict=True)])
        )
        correlations.append(
            mean(
                [
                    statistics.correlation(a, e)
                    for a, e in zip(along, eigenvalues, strict=True)
                ]
            )
        )
    return [
        at_least(
            SHARP_NOISE.id,
            "noise along the top u_i over that along random v",
            ratios,
            10,
        ),
        held_to(
            SHARP_NOISE.id,
            "correlation of u_i's noise with λ_i: > 0",
            correlations,
            lambda value: value > 0,
        ),
    ]


def _later(lines: Sequence, name: str) -> list:
    """Return what was logged after the start, where the gradient is not aligned yet."""
    return [
        (step, values)
        for step, values in zip(*series(lines, name), strict=True)
        if step > 0
    ]


def _plot_sharp_noise(runs: Runs) -> list[Plot]:
    run = runs[ONLY_POINT]
    lines = by_seed(run, "plain")[0]
    (_, eigenvalues), (step, along) = (
        _later(lines, name)[-1]
        for name in ("subspace/eigenvalues", "noise/along_basis")
    )
    x, random = zip(*_later(lines, "noise/along_random"), strict=True)
    _, basis = zip(*_later(lines, "noise/along_basis"), strict=True)
    return [
        Plot(
            f"Noise and curvature at step {step}",
            "λ_i",
            "u_iᵀ Cov(g_B) u_i",
            [Curve("u_i", eigenvalues, along, "dom", points=True)],
            log_x=True,
            log_y=True,
        ),
        Plot(
            "Noise over time",
            "step",
            "vᵀ Cov(g_B) v, mean over v",
            [
                Curve("top eigenvectors", x, [mean(v) for v in basis], "dom"),
                Curve("random directions", x, [mean(v) for v in random], "tail"),
            ],
            log_y=True,
        ),
    ]


EXPERIMENTS = (
    _noise_off("noise_off", "MLP", "MNIST-5k"),
    _noise_off("noise_off_cnn", "CNN", "CIFAR10-5k"),
    Experiment(
        "batch_size",
        "The batch size",
        (BATCH_SIZE,),
        _judge_batch_size,
        _plot_batch_size,
    ),
    Experiment(
        "why_dom_rises",
        "Why Dom does not learn",
        (WHY_DOM_RISES,),
        _judge_why,
        _plot_why,
    ),
    Experiment(
        "noise_directions",
        "The noise along eigenvectors",
        (SHARP_NOISE,),
        _judge_sharp_noise,
        _plot_sharp_noise,
    ),
)
