"""Other networks and tasks, and in which space Adam's advantage lives; P5-E6 to E9."""

from collections.abc import Callable

import numpy as np
from scipy import stats

from experiments.reproduction.curves import loss_plot, metric_curves
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    at_most,
    by_seed,
    held_to,
    series,
)
from experiments.reproduction.linear_attention.optimizers import both_curves
from experiments.reproduction.linear_attention.seeds import (
    ADAM,
    SGD,
    end_losses,
    median_losses,
    optimizer,
    over,
    progress,
)
from experiments.reproduction.plots import Curve, Panel, Plot

_LOSS = "loss of the fixed prompts"

# Softmax, P5-E6.

SOFTMAX = Claim(
    "P5-E6", "Fig. 7; criterion ours", "Linear attention learns much faster."
)


def _attention(run: Run) -> str:
    return "softmax" if "softmax" in run.config["task"]["model"] else "linear"


def _best(runs: Runs, group: Callable[[Run], str]) -> dict[str, Run]:
    """Return each group's run that most seeds finished, with the lowest loss."""
    found: dict[str, Run] = {}
    for run in runs.values():
        name = group(run)
        if name not in found or _rank(run) < _rank(found[name]):
            found[name] = run
    return found


def _rank(run: Run) -> tuple[int, float]:
    """Return how many seeds diverged, and the others' mean log of the loss at the end.

    Of the median of the last lines: one spike is not to decide.
    """
    losses = median_losses(run)
    logs = np.log(losses[np.isfinite(losses)])
    return losses.size - logs.size, float(np.mean(logs)) if logs.size else np.inf


def _judge_softmax(runs: Runs) -> list[Criterion]:
    best = _best(runs, _attention)
    losses = {name: end_losses(run) for name, run in best.items()}
    text = "linear over softmax: loss at the end"
    return [
        at_most(SOFTMAX.id, text, over(losses["linear"], losses["softmax"]), 0.5),
        *(
            Criterion(
                SOFTMAX.id,
                f"{name}: loss at the end, best of the learning rates",
                tuple(losses[name]),
                None,
                f"η = {run.config['optimizer']['learning_rate']:g}",
            )
            for name, run in best.items()
        ),
    ]


def _plots_softmax(runs: Runs) -> list[Panel]:
    curves = [
        curve._replace(name=name, role="")
        for name, run in _best(runs, _attention).items()
        for curve in metric_curves(run, "loss/full")
        if curve.role == "plain"
    ]
    return [Plot("Attention", "step", _LOSS, curves, log_y=True)]


# Deeper, P5-E7; full matrices; nonlinear regression.

DEEP = Claim(
    "P5-E7",
    "Fig. 8; criterion ours",
    "With eight layers and d = 20 Adam's loss ends below SGD's, too.",
)
FULL = Claim(
    "P5 full matrices", "ours", "With full matrices Adam's loss ends below SGD's, too."
)
NONLINEAR = Claim(
    "P5 nonlinear",
    "appendix; criterion ours",
    "In nonlinear regression, with an MLP on the covariates, it does, too.",
)


def _adam_wins(name: str, title: str, claim: Claim) -> Experiment:
    """Return an experiment that compares both optimizers, each at its best rate."""

    def judge(runs: Runs) -> list[Criterion]:
        best = _best(runs, optimizer)
        losses = {which: end_losses(run) for which, run in best.items()}
        text = "Adam's loss at the end over SGD's"
        return [
            at_most(claim.id, text, over(losses[ADAM], losses[SGD]), 0.8),
            *(
                Criterion(
                    claim.id,
                    f"{which}: loss at the end",
                    tuple(losses[which]),
                    None,
                    f"η = {run.config['optimizer']['learning_rate']:g}",
                )
                for which, run in best.items()
            ),
        ]

    def plots(runs: Runs) -> list[Panel]:
        curves = both_curves(_best(runs, optimizer), "loss/full")
        return [Plot(title, "step", _LOSS, curves, log_y=True)]

    return Experiment(name, title, (claim,), judge, plots)


DEPTH = Claim(
    "P5-E9", "Fig. 9; criterion ours", "The gap between SGD and Adam grows with depth."
)


def _depth(run: Run) -> int:
    return int(run.config["task"]["num_layers"])


def _by_depth(runs: Runs) -> dict[int, dict[str, Run]]:
    """Return both optimizers' runs at their best rates, from the fewest layers on."""
    return {
        depth: _best({n: r for n, r in runs.items() if _depth(r) == depth}, optimizer)
        for depth in sorted(set(map(_depth, runs.values())))
    }


def _judge_depths(runs: Runs) -> list[Criterion]:
    """Compare depths by the seeds that both optimizers finished, if they are half.

    By the median loss of the last lines, for it spikes.
    """
    gaps, criteria = {}, []
    for depth, both in _by_depth(runs).items():
        losses = {name: median_losses(run) for name, run in both.items()}
        num = losses[SGD].size
        finished = np.isfinite(losses[SGD]) & np.isfinite(losses[ADAM])
        gap = losses[SGD][finished] / losses[ADAM][finished]
        rates = {n: run.config["optimizer"]["learning_rate"] for n, run in both.items()}
        note = f"η = {rates[SGD]:g} and {rates[ADAM]:g}"
        if gap.size < num:
            note += f"; {num - gap.size} of {num} seeds diverged"
        if skipped := _skipped(both):
            note += f"; steps left out: {skipped}"
        if 2 * gap.size >= num:
            gaps[depth] = float(np.mean(np.log(gap)))
        text = f"{depth} layers: SGD's loss at the end over Adam's"
        criteria.append(Criterion(DEPTH.id, text, tuple(gap), None, note))
    text = "rank correlation of the depth and the mean log of the ratio > 0"
    found = []
    if len(gaps) > 2:
        found = [float(stats.spearmanr(list(gaps), list(gaps.values())).statistic)]
    note = f"of {', '.join(map(str, gaps))} layers"
    return [held_to(DEPTH.id, text, found, lambda rho: rho > 0, note), *criteria]


def _skipped(both: dict[str, Run]) -> str:
    """Return how many steps overflowed, of all seeds that finished, in words."""
    words = []
    for name, run in both.items():
        ended = np.isfinite(median_losses(run))
        counts = [
            max(line.get("cost/skipped_steps", 0) for line in lines)
            for lines in by_seed(run, "plain")
        ]
        total = sum(count for count, kept in zip(counts, ended, strict=True) if kept)
        words += [f"{total} with {name}"] if total else []
    return ", ".join(words)


def _plots_depths(runs: Runs) -> list[Panel]:
    return [
        Plot(
            f"{depth} layers", "step", _LOSS, both_curves(both, "loss/full"), log_y=True
        )
        for depth, both in _by_depth(runs).items()
    ]


# Dom and Bulk.

SPACES = Claim(
    "P5 spaces",
    "ours",
    "With both optimizers Bulk goes on and Dom stalls: the advantage is in the bulk.",
)


def _judge_spaces(runs: Runs) -> list[Criterion]:
    criteria: list[Criterion] = []
    bulk, dom, losses = {}, {}, {}
    for run in runs.values():
        name = optimizer(run)
        of = {mode: progress(run, mode) for mode in run.config["modes"]}
        bulk[name], dom[name] = of["bulk"], of["dom"]
        losses[name] = end_losses(run, "bulk")
        every = run.config["subspace"]["refresh_every"] or "adaptive"
        for mode in run.config["modes"]:
            angles = [
                float(np.median(series(lines, "subspace/angle")[1]))
                for lines in by_seed(run, mode)
            ]
            text = f"{name}, {mode}: median angle from a basis to the next, in radians"
            note = f"steps between them: {every}"
            criteria.append(Criterion(SPACES.id, text, tuple(angles), None, note))
        criteria += [
            at_least(SPACES.id, f"{name}, Dom: L_end / L_sw", of["dom"], 0.95),
            at_most(
                SPACES.id,
                f"{name}: Bulk's L_end over the plain one's",
                over(of["bulk"], of["plain"]),
                1.25,
            ),
            Criterion(
                SPACES.id, f"{name}, plain: L_end / L_sw", tuple(of["plain"]), None
            ),
        ]
    # Of what is left of the loss at the switch, where Adam is ahead already.
    ahead = over(bulk[ADAM], bulk[SGD])
    go_on = max(float(np.mean(ratios)) for ratios in (bulk[SGD], bulk[ADAM])) < 1
    criteria.append(
        held_to(
            SPACES.id,
            "Bulk-Adam's L_end / L_sw over Bulk-SGD's ≤ 0.8, and both go on",
            ahead,
            lambda ratio: go_on and ratio <= 0.8,
        )
    )
    for what, ratios in (
        ("Dom-Adam's L_end / L_sw over Dom-SGD's", over(dom[ADAM], dom[SGD])),
        (
            "Bulk-Adam's loss at the end over Bulk-SGD's",
            over(losses[ADAM], losses[SGD]),
        ),
    ):
        criteria.append(Criterion(SPACES.id, what, tuple(ratios), None))
    return criteria


def _plots_spaces(runs: Runs) -> list[Panel]:
    found: list[Panel] = []
    for run in runs.values():
        found.append(loss_plot(run, f"Loss, {optimizer(run)}"))
        curves: list[Curve] = metric_curves(run, "alignment/gradient")
        found.append(
            Plot(f"χ, {optimizer(run)}", "step", "χ_k of the gradient", curves)
        )
    return found


EXPERIMENTS = (
    Experiment(
        "softmax",
        "Linear and softmax attention",
        (SOFTMAX,),
        _judge_softmax,
        _plots_softmax,
    ),
    _adam_wins("deep", "Eight layers", DEEP),
    _adam_wins("full_matrices", "Full matrices", FULL),
    _adam_wins("nonlinear", "Nonlinear regression", NONLINEAR),
    Experiment(
        "depths", "The number of layers", (DEPTH,), _judge_depths, _plots_depths
    ),
    Experiment("spaces", "Dom and Bulk", (SPACES,), _judge_spaces, _plots_spaces),
)
