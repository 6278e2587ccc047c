"""The curvature's energy in the dominant space and off it, and where the gap is."""

from collections.abc import Sequence
from typing import Any

from experiments.reproduction.curves import (
    density_map,
    loss_plot,
    metric_curves,
    switches,
)
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    between,
    by_seed,
    mean,
    series,
    summaries,
)
from experiments.reproduction.plots import Curve, Level, Map, Plot

CONCENTRATED = Claim(
    "P2-E7",
    "abstract; criterion ours",
    "Most of the curvature's energy is in the dominant space, the Gauss-Newton part's "
    "more than the functional Hessian's.",
)
FOLLOWS = Claim("P2-E8", "ours", "The gap is at the number of classes.")

NAMES = {
    "hessian": "H",
    "gauss_newton": "G",
    "functional_hessian": "F",
}


def _after(run: Run, metric: str) -> list[list[Any]]:
    """Return each seed's values of a metric under SGD, from the switch on."""
    return [
        between(lines, metric, summary.switch_step)
        for lines, summary in zip(by_seed(run, "plain"), summaries(run), strict=True)
        if summary.switch_step is not None
    ]


_REPORTED = {
    "mean tr(P_k H) / tr H": "energy/trace_share_hessian",
    "mean tr(P_k G) / tr G": "energy/trace_share_gauss_newton",
    "mean gᵀ P H P g / gᵀ H g": "energy/gradient_share_hessian",
    "mean gᵀ P G P g / gᵀ G g": "energy/gradient_share_gauss_newton",
    "mean largest eigenvalue of F": "split/largest_functional_hessian",
    "mean smallest eigenvalue of F": "split/smallest_functional_hessian",
}


def _means(run: Run, metric: str) -> tuple[float, ...]:
    return tuple(mean(of_seed) for of_seed in _after(run, metric))


def _judge_energy(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    shares = {
        name: [
            mean(of_seed) for of_seed in _after(run, f"energy/frobenius_share_{key}")
        ]
        for key, name in NAMES.items()
    }
    errors = [
        mean(of_seed)
        for of_seed in _after(run, "energy/frobenius_share_standard_error_hessian")
    ]
    differences = [g - f for g, f in zip(shares["G"], shares["F"], strict=True)]
    overlaps = [mean(of_seed) for of_seed in _after(run, "split/overlap")]
    note = f"standard error of one estimate: {mean(errors):.2g}"
    return [
        at_least(
            CONCENTRATED.id, "mean E_dom(H) after the switch", shares["H"], 0.8, note
        ),
        at_least(CONCENTRATED.id, "mean E_dom(G) − E_dom(F)", differences, 0),
        *(
            Criterion(CONCENTRATED.id, f"mean E_dom({name})", tuple(shares[name]), None)
            for name in ("G", "F")
        ),
        Criterion(
            CONCENTRATED.id,
            "mean overlap of the top k spaces of H and of G",
            tuple(overlaps),
            None,
        ),
        *(
            Criterion(CONCENTRATED.id, text, _means(run, metric), None)
            for text, metric in _REPORTED.items()
        ),
    ]


def _plots_energy(runs: Runs) -> list[Plot | Map]:
    run = runs[ONLY_POINT]
    levels = switches(run)
    shares = [
        curve._replace(name=name, role="")
        for key, name in NAMES.items()
        for curve in metric_curves(run, f"energy/frobenius_share_{key}")
        if curve.role in ("warmup", "plain")
    ]
    gradient = metric_curves(run, "energy/gradient_share_hessian")
    return [
        _top_eigenvalues(run),
        _estimates(run, "Traces", "tr M", "energy/trace"),
        _estimates(run, "Frobenius norms", "‖M‖² (Frobenius)", "energy/frobenius"),
        _of_gradient(run),
        Plot("E_dom under SGD", "step", "‖P M‖² / ‖M‖² (Frobenius)", shares, levels),
        Plot(
            "The gradient's energy",
            "step",
            "gᵀ P H P g / gᵀ H g",
            gradient,
            levels,
        ),
        *(
            density_map(run, f"Spectral density of {name}", "density", f"over_x_{key}")
            for key, name in NAMES.items()
        ),
    ]


def _top_eigenvalues(run: Run) -> Plot:
    """Return lambda_1 of H and of G, and both ends of F, under SGD, first seed."""
    lines = by_seed(run, "plain")[0]
    curves = []
    for key in ("hessian", "gauss_newton"):
        steps, spectra = series(lines, f"split/eigenvalues_{key}")
        largest = [spectrum[0] for spectrum in spectra]
        curves.append(Curve(f"{NAMES[key]}, largest", steps, largest))
    for end in ("largest", "smallest"):
        found = series(lines, f"split/{end}_functional_hessian")
        curves.append(Curve(f"F, {end}", *found))
    return Plot("Extreme eigenvalues", "step", "eigenvalue", curves, switches(run))


def _estimates(run: Run, title: str, label: str, metric: str) -> Plot:
    """Return a stochastic estimate of H, G and F under SGD, with standard errors."""
    lines = by_seed(run, "plain")[0]
    curves = []
    for key, name in NAMES.items():
        found = series(lines, f"{metric}_{key}")
        errors = series(lines, f"{metric}_standard_error_{key}")[1]
        curves.append(Curve(name, *found, errors=errors))
    caption = "First seed; bars are standard errors of ten probes."
    return Plot(title, "step", label, curves, switches(run), caption=caption)


def _of_gradient(run: Run) -> Plot:
    """Return g^T M g of H, G and F under SGD, first seed."""
    lines = by_seed(run, "plain")[0]
    curves = [
        Curve(name, *series(lines, f"energy/gradient_{key}"))
        for key, name in NAMES.items()
    ]
    return Plot("Along the gradient", "step", "gᵀ M g", curves, switches(run))


def _judge_k(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    classes = 10
    shares = []
    for lines in by_seed(run, "plain"):
        chosen: Sequence[float] = series(lines, "subspace/k")[1]
        near = [abs(k - classes) <= 1 for k in chosen]
        shares.append(sum(near) / len(near))
    return [
        at_least(
            FOLLOWS.id,
            f"share of the logged steps of SGD with k within 1 of {classes}",
            shares,
            0.8,
        )
    ]


def _plots_k(runs: Runs) -> list[Plot]:
    run = runs[ONLY_POINT]
    curves: list[Curve] = metric_curves(run, "subspace/k")
    levels = [Level("classes", 10), *switches(run)]
    return [Plot("k in use", "step", "k", curves, levels), loss_plot(run)]


EXPERIMENTS = (
    Experiment(
        "energies",
        "The energy of the curvature",
        (CONCENTRATED,),
        _judge_energy,
        _plots_energy,
    ),
    Experiment(
        "adaptive_k", "A dimension that follows the gap", (FOLLOWS,), _judge_k, _plots_k
    ),
)
