"""How wrong may the subspace be? A study of ours, around the paper's algorithms."""

import math
from collections.abc import Callable, Sequence

from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import ends, mean
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.summary import BranchSummary, lines_of_seed, of_branch

_SOURCE = "a question of ours"

STALE = Claim("S1", _SOURCE, "How stale may the basis be?")
UNCONVERGED = Claim("S2", _SOURCE, "How far from converged may the basis be?")
FEW_EXAMPLES = Claim("S3", _SOURCE, "On how few examples may the curvature be taken?")
MINI_BATCH = Claim(
    "P1-R6",
    "asked by the reviewers",
    "The Hessian of a mini-batch, the step's own or another one, in place of the full "
    "one.",
)
OTHER_MATRICES = Claim(
    "S4", _SOURCE, "Rounded products, the Gauss-Newton matrix, a random basis."
)


KEPT_WITHIN = Claim("S5", _SOURCE, "To which angle must the basis be kept?")
OF_OPTIMIZERS = Claim("S6", _SOURCE, "Do Adam and Muon need a fresher basis than SGD?")


def _interval(run: Run) -> str:
    steps = run.config["subspace"]["refresh_every"]
    return "every step" if steps == 1 else f"every {steps:,} steps"


def _tolerance(run: Run) -> str:
    return f"tolerance {run.config['subspace']['tol']:g}"


def _examples(run: Run) -> str:
    subspace = run.config["subspace"]
    if subspace["examples"] != "train":
        size = run.config["batch_size"]
        own = "its own" if subspace["examples"] == "batch" else "another"
        return f"{own} mini-batch of {size}"
    return f"{subspace['num_examples'] or run.config['task']['num_train']:,} examples"


def _matrix(run: Run) -> str:
    subspace = run.config["subspace"]
    if subspace["curvature"] != "hessian":
        return str(subspace["curvature"]).replace("_", "-")
    return f"Hessian in {subspace['products_in']}"


def _max_angle(run: Run) -> str:
    return f"max_angle {run.config['subspace']['max_angle']:g}"


def _optimizer(run: Run) -> str:
    name = str(run.config["optimizer"]["name"])
    fixed = run.config["subspace"]["refresh_every"] > 0
    return f"{name}, {_interval(run) if fixed else _max_angle(run)}"


def _along(
    run: Run, metric: str, branches: Sequence[str] = ("dom", "bulk")
) -> list[list[float]]:
    """Return each seed's values of a metric along branches."""
    first, num = run.config["seed"], run.config["seeds"]
    return [
        [
            line[metric]
            for branch in branches
            for line in of_branch(lines_of_seed(run.lines, seed), branch)
            if metric in line
        ]
        for seed in range(first, first + num)
    ]


def _angles(run: Run) -> list[float]:
    """Return each seed's mean sine of the largest angle along Dom and Bulk."""
    angles = _along(run, "exact/angle")
    return [mean([math.sin(angle) for angle in of_seed]) for of_seed in angles]


def _overlaps(run: Run) -> list[float]:
    """Return each seed's mean overlap |U^T V|_F^2 / k along Dom and Bulk."""
    return [mean(of_seed) for of_seed in _along(run, "exact/overlap")]


def _alignments(run: Run, branch: str) -> list[float]:
    """Return each seed's mean chi_k by the exact space, a branch's second half."""
    along = _along(run, "exact/alignment_gradient", [branch])
    return [mean(of_seed[len(of_seed) // 2 :]) for of_seed in along]


def _report(claim: str, name: str, run: Run) -> list[Criterion]:
    """Report what became of Dom and Bulk, and how far off the basis was."""
    dom, bulk = (ends(run, mode) for mode in ("dom", "bulk"))
    rows = (
        ("Dom: L_end / L_sw", [one.ratio for one in dom]),
        ("L_end of Bulk / of SGD", _to_plain(run)),
        ("exact χ_k under Bulk, second half", _alignments(run, "bulk")),
        ("exact χ_k under SGD, second half", _alignments(run, "plain")),
        ("sine of the angle to the exact space, mean", _angles(run)),
        ("overlap with the exact space, mean", _overlaps(run)),
        ("products a step, of Dom and Bulk", _products(dom, bulk)),
    )
    return [
        Criterion(claim, f"{name}, {text}", tuple(values), None)
        for text, values in rows
    ]


def _to_plain(run: Run) -> list[float]:
    """Return each seed's loss under Bulk over that under SGD."""
    plain, bulk = ends(run, "plain"), ends(run, "bulk")
    return [b.loss / p.loss for b, p in zip(bulk, plain, strict=True)]


def _products(
    dom: Sequence[BranchSummary], bulk: Sequence[BranchSummary]
) -> list[float]:
    """Return each seed's Hessian-vector products a step for the basis."""
    return [
        (d.cost.matvecs + b.cost.matvecs) / (d.cost.steps + b.cost.steps)
        for d, b in zip(dom, bulk, strict=True)
        if d.cost is not None and b.cost is not None
    ]


def _judge(
    claim_of: Callable[[Run], Claim], describe: Callable[[Run], str]
) -> Callable:
    def judge(runs: Runs) -> list[Criterion]:
        criteria = [
            criterion
            for run in runs.values()
            for criterion in _report(claim_of(run).id, describe(run), run)
        ]
        for claim in dict.fromkeys(claim_of(run).id for run in runs.values()):
            own = [run for run in runs.values() if claim_of(run).id == claim]
            criteria += _limits(claim, describe, own)
        return criteria

    return judge


def _limits(
    claim: str, describe: Callable[[Run], str], runs: Sequence[Run]
) -> list[Criterion]:
    """Count the bases that serve, and name those that do not."""
    serves: dict[str, Callable[[Run], bool]] = {
        "Dom stalls: L_end / L_sw ≥ 0.95": lambda run: (
            mean([one.ratio for one in ends(run, "dom")]) >= 0.95
        ),
        "L_end of Bulk within 2 % of SGD's": lambda run: (
            abs(mean(_to_plain(run)) - 1) <= 0.02
        ),
    }
    criteria = []
    for text, holds in serves.items():
        failing = [describe(run) for run in runs if not holds(run)]
        share = (len(runs) - len(failing)) / len(runs)
        note = f"not with: {'; '.join(failing)}" if failing else ""
        criteria.append(
            Criterion(claim, f"share of the bases: {text}", (share,), None, note)
        )
    return criteria


def _plots(describe: Callable[[Run], str]) -> Callable[[Runs], list[Plot]]:
    """Draw Dom's loss, Bulk's, and its alignment against the angle, a point a seed."""

    def plots(runs: Runs) -> list[Plot]:
        dom, bulk, chi = [], [], []
        for run in runs.values():
            name, sines = describe(run), _angles(run)
            ratios = [one.ratio for one in ends(run, "dom")]
            dom.append(Curve(name, sines, ratios, points=True))
            bulk.append(Curve(name, sines, _to_plain(run), points=True))
            chi.append(Curve(name, sines, _alignments(run, "bulk"), points=True))
        x = "sine of the angle to the exact space"
        stalls, matches = Level("stalls", 1.0), Level("as plain", 1.0)
        return [
            Plot("Dom", x, "L_end / L_sw", dom, [stalls], log_x=True),
            Plot(
                "Bulk",
                x,
                "L_end / that of the plain optimizer",
                bulk,
                [matches],
                log_x=True,
                log_y=True,  # one of them ends at thousands
            ),
            Plot("Alignment under Bulk", x, "exact χ_k", chi, log_x=True),
        ]

    return plots


def _of(claim: Claim) -> Callable[[Run], Claim]:
    return lambda _: claim


def _claim_of_examples(run: Run) -> Claim:
    is_batch = run.config["subspace"]["examples"] != "train"
    return MINI_BATCH if is_batch else FEW_EXAMPLES


EXPERIMENTS = (
    Experiment(
        "sensitivity_interval",
        "How stale may the basis be?",
        (STALE,),
        _judge(_of(STALE), _interval),
        _plots(_interval),
    ),
    Experiment(
        "sensitivity_tolerance",
        "How far from converged may the basis be?",
        (UNCONVERGED,),
        _judge(_of(UNCONVERGED), _tolerance),
        _plots(_tolerance),
    ),
    Experiment(
        "sensitivity_examples",
        "On how few examples may the curvature be taken?",
        (FEW_EXAMPLES, MINI_BATCH),
        _judge(_claim_of_examples, _examples),
        _plots(_examples),
    ),
    Experiment(
        "sensitivity_matrix",
        "Rounded products, other matrices",
        (OTHER_MATRICES,),
        _judge(_of(OTHER_MATRICES), _matrix),
        _plots(_matrix),
    ),
    Experiment(
        "sensitivity_angle",
        "To which angle must the basis be kept?",
        (KEPT_WITHIN,),
        _judge(_of(KEPT_WITHIN), _max_angle),
        _plots(_max_angle),
    ),
    Experiment(
        "sensitivity_optimizers",
        "Adam, Muon and a stale basis",
        (OF_OPTIMIZERS,),
        _judge(_of(OF_OPTIMIZERS), _optimizer),
        _plots(_optimizer),
    ),
)
