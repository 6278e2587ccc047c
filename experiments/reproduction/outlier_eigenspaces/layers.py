"""Layers of real networks: their own outliers, and projections on their own spaces."""

import re
from typing import NamedTuple

import numpy as np

from experiments.reproduction.curves import loss_plot, metric_curves
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, at_most, ends
from experiments.reproduction.outlier_eigenspaces.lines import (
    MATRICES,
    count_outliers,
    last,
)
from experiments.reproduction.plots import Panel, Plot

_ALIGNMENT = re.compile(r"blocks/(.+)_(hessian|second_moment)_(train|test)_alignment$")
_SETS = {"train": "training set", "test": "test set"}


class _Block(NamedTuple):
    """A layer's block of a matrix, on a set of examples."""

    layer: str
    matrix: str
    split: str

    def __str__(self) -> str:
        return f"{self.layer}, {MATRICES[self.matrix]}, {_SETS[self.split]}"

    def metric(self, key: str) -> str:
        return f"blocks/{self.layer}_{self.matrix}_{self.split}_{key}"


def _blocks_of(run: Run) -> list[_Block]:
    """Return the blocks that a run looked at."""
    names = dict.fromkeys(name for line in run.lines for name in line)
    return [_Block(*match.groups()) for match in map(_ALIGNMENT.match, names) if match]


def _of_spectrum(claim: Claim, run: Run, block: _Block) -> list[Criterion]:
    """Return a layer's outliers at the end, and how well they are known."""
    k = run.config["subspace"]["k"]
    values = last(run, block.metric("eigenvalues"))
    counts, num = count_outliers(values), values.shape[-1]
    residual = float(np.max(last(run, block.metric("residual"))))
    text = f"{block}: outliers by gaps among {num} eigenvalues"
    unseen = int(np.sum(counts == num - 1))
    note = f"no edge among them in {unseen} of {len(counts)} seeds" if unseen else ""
    found = [Criterion(claim.id, text, tuple(map(float, counts)), None, note)]
    if values.shape[-1] > k:
        gaps = values[:, k - 1] / values[:, k]
        note = f"largest residual over λ_1: {residual:.1g}"
        text = f"{block}: λ_{k} / λ_{k + 1} at the end"
        found.append(Criterion(claim.id, text, tuple(gaps), None, note))
    return found


def _experiment(name: str, network: str, suffix: str) -> Experiment:
    gradient = Claim(
        f"P3 layers{suffix}",
        "ours",
        "Each layer's gradient lies mostly in its own block's top 10.",
    )
    params = Claim(
        f"P3 layers{suffix}, parameters",
        "ours, after Theorem 4.1",
        "So do each layer's parameters.",
    )

    def judge(runs: Runs) -> list[Criterion]:
        run = runs[ONLY_POINT]
        criteria = []
        blocks = _blocks_of(run)
        for block in blocks:
            for claim, key, of in (
                (gradient, "alignment_gradient", "gradient"),
                (params, "alignment", "parameters"),
            ):
                text = f"{block}: alignment of the {of} at the end"
                values = last(run, block.metric(key))
                criteria.append(at_least(claim.id, text, values, 0.8))
            criteria += _of_spectrum(gradient, run, block)
        for layer, split in dict.fromkeys((one.layer, one.split) for one in blocks):
            name = f"blocks/{layer}_{split}_overlap"
            if any(name in line for line in run.lines):
                text = f"{layer}, {_SETS[split]}: overlap of E_k(H) and E_k(Γ), the end"
                values = tuple(last(run, name))
                criteria.append(Criterion(gradient.id, text, values, None))
        return criteria

    def plots(runs: Runs) -> list[Panel]:
        run = runs[ONLY_POINT]
        blocks = _blocks_of(run)
        drawn = blocks[0].split
        found: list[Panel] = []
        for key, of in (("alignment_gradient", "gradient"), ("alignment", "params")):
            curves = [
                curve._replace(name=f"{block.layer}, {MATRICES[block.matrix]}", role="")
                for block in blocks
                if block.split == drawn
                for curve in metric_curves(run, block.metric(key))
                if curve.role == "plain"
            ]
            found.append(
                Plot(
                    f"Alignment of the {of}, {_SETS[drawn]}",
                    "step",
                    f"align(b, E_{run.config['subspace']['k']})",
                    curves,
                )
            )
        return found

    return Experiment(
        name, f"Layer by layer: {network}", (gradient, params), judge, plots
    )


SPACES = Claim(
    "P3 layer spaces",
    "ours",
    "Off the layers' own dominant spaces SGD learns, and in them it stalls.",
)


def _space(run: Run) -> str:
    subspace = run.config["subspace"]
    what = {"hessian": "Hessian", "layers": "layers"}[subspace["curvature"]]
    return f"{what}, k = {subspace['k']}"


_UNIT = "with the whole Hessian; a product with the layers' takes as many as layers"


def _products(run: Run) -> float:
    """Return the products with the whole Hessian that a run's solves took."""
    is_layers = run.config["subspace"]["curvature"] == "layers"
    each = len(run.config["task"]["hidden_sizes"]) + 1 if is_layers else 1
    return each * max(line.get("cost/matvecs", 0) for line in run.lines)


def _judge_spaces(runs: Runs) -> list[Criterion]:
    criteria = []
    for run in runs.values():
        dom, bulk, plain = (
            [one.ratio for one in ends(run, mode)] for mode in ("dom", "bulk", "plain")
        )
        over = [b / p for b, p in zip(bulk, plain, strict=True)]
        name = _space(run)
        stalls, learns = (
            f"{name}: Dom, L_end / L_sw",
            f"{name}: Bulk's L_end over SGD's",
        )
        if run.config["subspace"]["curvature"] == "layers":
            criteria += [
                at_least(SPACES.id, stalls, dom, 0.95),
                at_most(SPACES.id, learns, over, 1.1),
                at_most(SPACES.id, f"{name}: Bulk, L_end / L_sw", bulk, 0.9),
            ]
        else:  # what it is compared with
            criteria += [
                Criterion(SPACES.id, stalls, tuple(dom), None),
                Criterion(SPACES.id, learns, tuple(over), None),
            ]
        criteria.append(
            Criterion(
                SPACES.id, f"{name}: products in all", (_products(run),), None, _UNIT
            )
        )
    return criteria


def _plots_spaces(runs: Runs) -> list[Panel]:
    return [loss_plot(run, _space(run)) for run in runs.values()]


EXPERIMENTS = (
    _experiment("layers", "MLP on MNIST-5k", ""),
    _experiment("layers_cnn", "CNN on CIFAR10-5k", ", CNN"),
    Experiment(
        "layer_spaces",
        "The layers' own spaces",
        (SPACES,),
        _judge_spaces,
        _plots_spaces,
    ),
)
