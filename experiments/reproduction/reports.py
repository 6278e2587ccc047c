"""What is written of a paper's experiments: the report, its figures, the verdicts."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import json_values
from experiments.reproduction import page
from experiments.reproduction.design import Design
from experiments.reproduction.experiment import Criterion, Experiment, Runs, verdict
from experiments.reproduction.outcome import Entry, Page
from experiments.reproduction.static import write_static

_INTRODUCTION = (
    "Each claim is held to criteria that were fixed before the runs; they are this "
    "project's, where the paper gives none. Verdicts are computed from the runs' records: "
    "reproduced, if all criteria of a claim hold; partly, if some do; not reproduced, if "
    "none does. A number that could not be measured gives no verdict.\n\n"
    "A scale smaller than the paper's changes what each experiment lists; criteria stay "
    "the same, so that a horizon that is too short shows as a criterion that fails."
)


def judge(
    paper: str,
    experiment: Experiment,
    scale: str,
    design: Design,
    runs: Runs,
    errors: Mapping[str, str],
) -> Entry:
    """Return an experiment with its verdicts, as far as its runs have come."""
    lacking = [point.name for point in design.points if point.name not in runs]
    lacking += [name for name in errors if name not in lacking]
    if lacking:
        note = "; ".join(f"{name}: {errors.get(name, 'not run')}" for name in lacking)
        criteria: Sequence[Criterion] = [
            Criterion(claim.id, "all runs have ended", (), None, note)
            for claim in experiment.claims
        ]
        return _entry(paper, experiment, scale, design, runs, criteria, ())
    criteria, plots = experiment.judge(runs), experiment.plots(runs)
    return _entry(paper, experiment, scale, design, runs, criteria, plots)


def _entry(
    paper: str,
    experiment: Experiment,
    scale: str,
    design: Design,
    runs: Runs,
    criteria: Sequence[Criterion],
    plots: Sequence[Any],
) -> Entry:
    seconds = [
        run.status["seconds"] for run in runs.values() if "seconds" in run.status
    ]
    changes = dict(design.changes)
    if design.left_out:
        changes["runs left out"] = (", ".join(design.left_out), "")
    return Entry(
        experiment=experiment,
        criteria=criteria,
        plots=plots,
        changes=changes,
        command=f"make reproduce SCALE={scale} EXPERIMENTS={paper}/{experiment.name}",
        config=json_values.flatten(design.points[0].config.to_dict()),
        status=_statuses(runs),
        seconds=sum(seconds) if seconds else None,
        hardware=", ".join(_distinct(runs, "hardware")),
    )


def _statuses(runs: Runs) -> str:
    """Return how the runs ended, in words."""
    counts: dict[str, int] = {}
    for run in runs.values():
        status = run.status["status"]
        counts[status] = counts.get(status, 0) + 1
    return (
        ", ".join(f"{count} {status}" for status, count in counts.items()) or "not run"
    )


def write(title: str, scale: str, folder: Path, entries: Sequence[Entry]) -> Path:
    """Write report.html, figures/ and verdicts.json into a folder; return the page."""
    drawn = [
        entry._replace(
            files=write_static(entry.plots, folder / "figures", entry.experiment.name)
        )
        for entry in entries
    ]
    json_values.write_file(folder / "verdicts.json", {"claims": verdicts(entries)})
    whole = Page(title, _INTRODUCTION, scale, {}, drawn)
    return page.write_page(folder / "report.html", whole)


def verdicts(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return each claim with its verdict and criteria, as JSON values."""
    found = []
    for entry in entries:
        for claim in entry.experiment.claims:
            criteria = [one for one in entry.criteria if one.claim == claim.id]
            found.append(
                {
                    "experiment": entry.experiment.name,
                    "claim": claim.id,
                    "verdict": verdict(criteria),
                    "criteria": [
                        {
                            "text": one.text,
                            "mean": statistics.fmean(one.values)
                            if one.values
                            else None,
                            "values": list(one.values),
                            "holds": one.holds,
                            "note": one.note,
                        }
                        for one in criteria
                    ],
                }
            )
    return found
