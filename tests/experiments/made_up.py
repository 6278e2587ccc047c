"""Made-up runs, as claimed and not, for the tests of judges."""

from experiments.reproduction.experiment import Run
from experiments.reproduction.plots import Map
from experiments.reproduction.words import verdict_on


def make_run(parts, switch_step, seeds=1, diverged=(), **fields):
    """Return a run from each part's lines; a part is (name, steps, metrics of step).

    diverged: names of branches that did.
    """
    lines = [
        {"branch": name, "seed": seed, "step": step, **metrics(step)}
        for seed in range(seeds)
        for name, steps, metrics in parts
        for step in steps
    ]
    names = dict.fromkeys(name for name, *_ in parts)
    last = {name: max(s for n, s, _ in parts if n == name)[-1] for name in names}
    outcomes = {
        n: {"status": "diverged" if n in diverged else "finished", "step": step}
        for n, step in last.items()
    }
    several = seeds > 1
    status = {
        "status": "finished",
        "switch_step": [switch_step] * seeds if several else switch_step,
        "branches": {n: [o] * seeds if several else o for n, o in outcomes.items()},
    }
    config = {
        "seed": 0,
        "seeds": seeds,
        "steps": max(last.values()),
        "modes": [name for name in names if name != "warmup"],
        "subspace": {"k": 2},
        "switch": {"step": 0},
        "report_window": 100,
        **fields,
    }
    return Run(config, status, lines, [])


def verdicts_of(experiment, runs):
    """Return the verdict on each claim; every figure shows something."""
    criteria = experiment.judge(runs)
    plots = experiment.plots(runs)
    assert plots
    assert all(isinstance(plot, Map) or plot.curves for plot in plots)
    return {claim.id: verdict_on(claim, criteria) for claim in experiment.claims}
