"""Tails: of the gradient's noise, and of the covariates; P5-E2 and E8."""

import math

import numpy as np
from scipy import stats

from experiments import gradient_noise
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, held_to
from experiments.reproduction.linear_attention.optimizers import (
    STEPS,
    both_curves,
    interval,
    ratios,
)
from experiments.reproduction.linear_attention.seeds import (
    ADAM,
    SGD,
    end_losses,
    over,
    pairs,
    setting,
)
from experiments.reproduction.plots import Curve, Panel, Plot

NOISE = Claim(
    "P5-E2",
    "Fig. 3; criterion ours",
    "The gradient's noise has heavy tails, heavier in settings 2 and 3.",
)
NOISE_OF_COVARIATES = Claim(
    "P5-E8 noise", "Sec. 5", "Heavier covariates, heavier noise."
)
NOISE_OF_DEPTH = Claim("P5-E9 noise", "Fig. 9", "More layers, heavier noise.")
_IN_TAIL = 0.05
"""The share of the norms from which the tail's index is estimated."""


def _name(run: Run) -> str:
    """Return what sets a run apart: its setting, covariates or layers."""
    task = run.config["task"]
    if task["dimension"] > 5:
        return "d = 20, 8 layers"
    if task["covariates"] == "sphere":
        return "sphere"
    layers = task["num_layers"]
    return setting(run) if layers == 3 else f"{layers} layers"


def norms_of(run: Run) -> np.ndarray:
    """Return the norms |g_B - g|."""
    (line,) = (line for line in run.lines if "noise/norms" in line)
    return np.array(line["noise/norms"], float)


def excess_kurtosis(
    norms: np.ndarray, seed: int = 0, num: int = 400
) -> tuple[float, np.ndarray]:
    """Return the norms' excess kurtosis, and those of samples drawn from them.

    The samples give an interval, by their quantiles: where tails are heavy it is not
    symmetric, and a standard error says little.
    """
    rng = np.random.default_rng(seed)
    draws = [stats.kurtosis(rng.choice(norms, len(norms))) for _ in range(num)]
    return float(stats.kurtosis(norms)), np.array(draws)


def tail_index(norms: np.ndarray) -> tuple[float, float]:
    """Return Hill's estimate of the exponent of P(|.| > t), and its standard error.

    From the largest 5 %. A power law has it for a tail; lighter tails have a large one,
    which grows as fewer norms are taken.
    """
    largest = np.sort(norms)[::-1]
    num = max(int(_IN_TAIL * len(norms)), 2)
    index = 1 / np.mean(np.log(largest[:num] / largest[num]))
    return float(index), float(index / math.sqrt(num))


def _above_zero(claim: Claim, text: str, value: float, draws: np.ndarray) -> Criterion:
    """Hold a bootstrapped value's 95 % interval to lie above 0."""
    low, high = np.quantile(draws, (0.025, 0.975))
    note = f"95 % interval {low:.2g} to {high:.2g}"
    return held_to(claim.id, text, [value], lambda _: bool(low > 0), note)


def _judge_noise(runs: Runs) -> list[Criterion]:
    of_settings = {_name(run): norms_of(run) for run in runs.values()}
    found = {
        name: excess_kurtosis(norms, seed)
        for seed, (name, norms) in enumerate(of_settings.items())
    }
    criteria = []
    for name, (value, draws) in found.items():
        text = f"{name}: excess kurtosis of ‖g_B − g‖"
        one = _above_zero(NOISE, f"{text}, its interval above 0", value, draws)
        # The claim is of the settings; with the others they are compared.
        is_held = name.startswith("setting")
        criteria.append(one if is_held else one._replace(text=text, holds=None))
    for claim, heavier, lighter in (
        (NOISE, "setting 2", "setting 1"),
        (NOISE, "setting 3", "setting 1"),
        (NOISE_OF_COVARIATES, "setting 3", "sphere"),
        (NOISE_OF_DEPTH, "6 layers", "2 layers"),
        (NOISE_OF_DEPTH, "8 layers", "2 layers"),
    ):
        (more, of_more), (less, of_less) = found[heavier], found[lighter]
        text = f"{heavier} less {lighter}: excess kurtosis, its interval above 0"
        criteria.append(_above_zero(claim, text, more - less, of_more - of_less))
    for name, norms in of_settings.items():
        index, error = tail_index(norms)
        text = f"{name}: tail index (Hill, largest {_IN_TAIL:.0%})"
        note = f"standard error {error:.2g}"
        criteria.append(Criterion(NOISE.id, text, (index,), None, note))
    return criteria


_EACH_END = 100
"""Points of a quantile plot's ends that are all drawn."""


def _histogram(name: str, norms: np.ndarray) -> Curve:
    """Return the density on bins that grow geometrically; a gap where one is empty."""
    scaled = norms / np.median(norms)
    edges = np.geomspace(scaled.min(), scaled.max(), 61)
    density, _ = np.histogram(scaled, bins=edges, density=True)
    density = np.where(density > 0, density, np.nan)
    return Curve(name, np.sqrt(edges[1:] * edges[:-1]).tolist(), density.tolist())


def _quantiles(name: str, norms: np.ndarray) -> Curve:
    """Return the standardized norms against a normal variable's quantiles."""
    (normal, ordered), _ = stats.probplot((norms - norms.mean()) / norms.std())
    places = np.arange(len(norms))
    ends = (places < _EACH_END) | (places >= len(norms) - _EACH_END)
    some = np.isin(places, np.linspace(0, len(norms) - 1, 2 * _EACH_END).astype(int))
    drawn = ends | some
    return Curve(name, normal[drawn].tolist(), ordered[drawn].tolist(), points=True)


def _plots_noise(runs: Runs) -> list[Panel]:
    norms = {_name(run): norms_of(run) for run in runs.values()}
    # Setting 1 has three layers, and Gaussian covariates.
    groups = {
        "covariates": [n for n in norms if n.startswith("setting") or n == "sphere"],
        "layers": [n for n in norms if n == "setting 1" or n.endswith("layers")],
    }
    straight = [-4.0, 4.0]
    normal = Curve("normal", straight, straight, "plain")
    plots: list[Panel] = []
    for what, names in groups.items():
        plots += [
            Plot(
                f"Noise at the start: {what}",
                "‖g_B − g‖ over its median",
                "density",
                [_histogram(name, norms[name]) for name in names],
                log_x=True,
                log_y=True,
            ),
            Plot(
                f"Quantiles: {what}",
                "of a normal variable",
                "of ‖g_B − g‖, standardized",
                [*(_quantiles(name, norms[name]) for name in names), normal],
            ),
        ]
    return plots


# The covariates' tails, P5-E8.

COVARIATES = Claim(
    "P5-E8",
    "Sec. 5; criterion ours",
    "Heavier-tailed covariates widen the gap between the condition numbers.",
)


def _covariates(run: Run) -> str:
    return str(run.config["task"]["covariates"])


def _judge_covariates(runs: Runs) -> list[Criterion]:
    criteria, means = [], {}
    for name, both in pairs(runs, _covariates).items():
        for step in STEPS:
            found = ratios(both, "conditioning/by_diagonal", step)
            means[name, step] = float(np.mean(found)) if found.size else math.nan
            text = f"{name}, step {step}: R(SGD) / R(Adam) by the diagonal"
            criteria.append(
                Criterion(COVARIATES.id, text, tuple(found), None, interval(found))
            )
            found = ratios(both, "conditioning/by_eigenvalues", step)
            text = f"{name}, step {step}: R(SGD) / R(Adam) by eigenvalues"
            criteria.append(
                Criterion(COVARIATES.id, text, tuple(found), None, interval(found))
            )
        ends = {which: end_losses(run) for which, run in both.items()}
        text = f"{name}: Adam's loss at the end over SGD's"
        criteria.append(
            Criterion(COVARIATES.id, text, tuple(over(ends[ADAM], ends[SGD])), None)
        )
    for step in STEPS:
        text = f"step {step}: the mean ratio with heavy tails over that on the sphere"
        wider = means["gamma", step] / means["sphere", step]
        criteria.append(at_least(COVARIATES.id, text, [wider], 1))
    return criteria


def _plots_covariates(runs: Runs) -> list[Panel]:
    return [
        Plot(
            f"{name.capitalize()}: {label}",
            "step",
            label,
            both_curves(both, metric),
            log_y=True,
        )
        for metric, label in (
            ("loss/full", "loss"),
            ("conditioning/by_diagonal", "max |H_ii| / median |H_ii|"),
        )
        for name, both in pairs(runs, _covariates).items()
    ]


EXPERIMENTS = (
    Experiment(
        "noise",
        "The gradient's noise",
        (NOISE, NOISE_OF_COVARIATES, NOISE_OF_DEPTH),
        _judge_noise,
        _plots_noise,
        gradient_noise.run,
    ),
    Experiment(
        "covariates",
        "Light and heavy tails",
        (COVARIATES,),
        _judge_covariates,
        _plots_covariates,
    ),
)
