"""Figure 1 on the three tasks, and what else its runs answer."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.reproduction.curves import (
    alignment_plot,
    loss_plot,
    metric_curves,
    spectrum_plot,
    switches,
)
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    at_most,
    by_seed,
    ends,
    held_to,
    mean,
    never_switched,
    series,
    summaries,
)
from experiments.reproduction.plots import Plot


class Claims(NamedTuple):
    """The claims that figure 1's runs on one task answer to."""

    dom_stalls: Claim
    aligns: Claim
    low_rank: Claim
    generalizes: Claim


def claims(task: str) -> Claims:
    """Return the claims with the task in their ids."""
    asked = "asked by the reviewers"
    return Claims(
        Claim(
            f"P1-E1 {task}",
            "Fig. 1",
            "After the switch Dom-SGD's loss stalls or rises, while Bulk-SGD learns as "
            "SGD does.",
        ),
        Claim(
            f"P1-E2 {task}",
            "Fig. 3",
            "The full gradient aligns with the dominant space: unsteadily at first, "
            "then χ_k stays near 1.",
        ),
        Claim(
            f"P1-E3 {task}",
            "Fig. 15",
            "k eigenvalues stand out from the others, all along.",
        ),
        Claim(f"P1-R1 {task}", asked, "Bulk-SGD generalizes as SGD does."),
    )


def stalls_and_learns(
    run: Run, claim: str, max_ratio: float, where: str = ""
) -> list[Criterion]:
    """Hold Dom's, SGD's and Bulk's last losses to that before the switch, L_sw."""
    plain, dom, bulk = (ends(run, name) for name in ("plain", "dom", "bulk"))
    note = never_switched(run)
    difference = [
        abs(b.loss / p.loss - 1) for b, p in zip(bulk, plain, strict=False) if p.loss
    ]
    return [
        at_least(claim, f"{where}Dom: L_end / L_sw", _ratios(dom), 0.95, note),
        at_most(claim, f"{where}plain: L_end / L_sw", _ratios(plain), max_ratio),
        at_most(claim, f"{where}Bulk: L_end / L_sw", _ratios(bulk), max_ratio),
        at_most(claim, f"{where}|L_end of Bulk / of plain − 1|", difference, 0.25),
    ]


def _ratios(branches: Sequence) -> list[float]:
    return [branch.ratio for branch in branches]


def aligns(run: Run, claim: str, last_switch: int) -> list[Criterion]:
    """Hold the step of the switch and chi_k after it to bounds."""
    text = f"the moving average passes 0.95 between steps 500 and {last_switch:,}: step"
    if run.config["switch"]["step"] > 0:
        note = "this scale switches at a given step"
        switch = Criterion(claim, text, (), None, note)
    else:
        steps = [
            summary.switch_step
            for summary in summaries(run)
            if summary.switch_step is not None
        ]
        switch = held_to(
            claim,
            text,
            steps,
            lambda step: 500 <= step <= last_switch,
            never_switched(run),
        )
    after = [
        mean(
            [
                chi
                for step, chi in zip(*series(lines, "alignment/gradient"), strict=True)
                if summary.switch_step is not None and step >= summary.switch_step
            ]
        )
        for lines, summary in zip(by_seed(run, "plain"), summaries(run), strict=True)
    ]
    return [switch, at_least(claim, "mean χ_k of SGD after the switch", after, 0.93)]


def low_rank(run: Run, claim: str) -> list[Criterion]:
    """Hold the smallest gap at k, of SGD's whole course after step 100, to 2."""
    k = run.config["subspace"]["k"]
    smallest = []
    for lines in by_seed(run, "plain"):
        steps, spectra = series(lines, "spectrum/eigenvalues")
        gaps = [
            values[k - 1] / values[k]
            for step, values in zip(steps, spectra, strict=True)
            if step >= 100 and len(values) > k
        ]
        smallest += [min(gaps)] if gaps else []
    return [at_least(claim, f"smallest λ_{k} / λ_{k + 1} after step 100", smallest, 2)]


def generalizes(run: Run, claim: str) -> list[Criterion]:
    """Hold Bulk's last test accuracy to SGD's, within two points."""
    gaps = [
        100 * (bulk.test_accuracy - plain.test_accuracy)
        for bulk, plain in zip(ends(run, "bulk"), ends(run, "plain"), strict=False)
        if bulk.test_accuracy is not None and plain.test_accuracy is not None
    ]
    dom = [
        100 * (dom.test_accuracy - plain.test_accuracy)
        for dom, plain in zip(ends(run, "dom"), ends(run, "plain"), strict=False)
        if dom.test_accuracy is not None and plain.test_accuracy is not None
    ]
    return [
        held_to(
            claim,
            "test accuracy of Bulk less that of SGD, in points: within ±2",
            gaps,
            lambda gap: abs(gap) <= 2,
        ),
        Criterion(
            claim, "the same of Dom", tuple(dom), None, "" if dom else "not measured"
        ),
    ]


def plots(runs: Runs) -> list[Plot]:
    """Return loss, alignment, spectrum and test accuracy."""
    run = runs[ONLY_POINT]
    return [
        loss_plot(run),
        alignment_plot(run),
        spectrum_plot(run),
        Plot(
            "Test accuracy",
            "step",
            "test accuracy",
            metric_curves(run, "accuracy/test"),
            switches(run),
        ),
    ]


def _experiment(
    name: str, title: str, task: str, max_ratio: float, last_switch: int
) -> Experiment:
    """Return figure 1 on a task, with bounds on L_end / L_sw and the switch's step."""
    of = claims(task)

    def judge(runs: Runs) -> list[Criterion]:
        run = runs[ONLY_POINT]
        return [
            *stalls_and_learns(run, of.dom_stalls.id, max_ratio),
            *aligns(run, of.aligns.id, last_switch),
            *low_rank(run, of.low_rank.id),
            *generalizes(run, of.generalizes.id),
        ]

    return Experiment(name, f"Figure 1: {title}", of, judge, plots)


EXPERIMENTS = (
    _experiment("mlp_mnist", "MLP on MNIST-5k", "MLP", 0.6, 8000),
    _experiment("cnn_cifar10", "CNN on CIFAR10-5k", "CNN", 0.93, 20_000),
    _experiment(
        "transformer_sst2", "transformer on SST2-1k", "transformer", 0.85, 20_000
    ),
)
