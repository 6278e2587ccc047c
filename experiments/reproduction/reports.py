"""What is written of a paper's experiments: the report, its figures, the verdicts."""

import statistics
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments import json_values
from experiments.provenance import git_revision, version
from experiments.reproduction import markdown, page
from experiments.reproduction.design import Design
from experiments.reproduction.experiment import (
    Criterion,
    Experiment,
    Run,
    Runs,
)
from experiments.reproduction.outcome import Entry, Page
from experiments.reproduction.plots import Panel
from experiments.reproduction.static import write_static
from experiments.reproduction.words import of_claim, verdict_on

_INTRODUCTION = (
    "Each claim is held to criteria that are in the code; they are this project's, "
    "where the paper gives none. Verdicts are computed from the runs' "
    "records: reproduced, if all criteria of a claim hold; partly, if some do; not "
    "reproduced, if none does. A number that could not be measured gives no verdict."
    "\n\n"
    "The settings of the full scale are the paper's where it gives them, and else this "
    "project's. A smaller scale changes what each experiment lists; criteria "
    "stay the same, so that a horizon that is too short shows as one that fails."
)

_FEW_RUNS = 8


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
        return _entry(paper, experiment, scale, design, runs, errors, criteria, ())
    try:
        criteria, plots = experiment.judge(runs), experiment.plots(runs)
    except Exception as error:  # the other experiments go on
        traceback.print_exc()
        note = f"{type(error).__name__}: {error}"
        criteria = [
            Criterion(claim.id, "the numbers could be computed", (), None, note)
            for claim in experiment.claims
        ]
        plots, errors = (), {**errors, "the judge": note}
    return _entry(paper, experiment, scale, design, runs, errors, criteria, plots)


def _entry(
    paper: str,
    experiment: Experiment,
    scale: str,
    design: Design,
    runs: Runs,
    errors: Mapping[str, str],
    criteria: Sequence[Criterion],
    plots: Sequence[Panel],
) -> Entry:
    seconds = [
        run.status["seconds"] for run in runs.values() if "seconds" in run.status
    ]
    changes = dict(design.changes)
    if design.left_out:
        changes["runs left out"] = (_listed(design.left_out), "")
    return Entry(
        experiment=experiment,
        criteria=criteria,
        plots=plots,
        changes=changes,
        command=f"make reproduce SCALE={scale} EXPERIMENTS={paper}/{experiment.name}",
        config=json_values.flatten(design.points[0].config.to_dict()),
        status=_statuses(runs, errors),
        seconds=sum(seconds) if seconds else None,
        hardware="; ".join(_distinct(_hardware(run) for run in runs.values())),
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _FEW_RUNS:
        return ", ".join(names)
    return f"{len(names)}, see the config"


def _hardware(run: Run) -> str:
    """Return what a run ran on, in words; several, if it was resumed elsewhere."""
    return "; ".join(_distinct(_machine(start) for start in run.provenance))


def _machine(start: Mapping[str, Any]) -> str:
    devices = start["devices"]
    if devices["kind"] != "cpu":
        return f"{devices['count']} x {devices['kind']}"
    processor = start.get("processor", {})
    return f"{processor.get('name', 'CPU')}, {processor.get('cores', '?')} cores"


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _statuses(runs: Runs, errors: Mapping[str, str]) -> str:
    """Return how the runs ended, in words."""
    counts: dict[str, int] = {}
    for name in _distinct([*runs, *errors]):
        status = "failed" if name in errors else runs[name].status["status"]
        counts[status] = counts.get(status, 0) + 1
    return (
        ", ".join(f"{count} {status}" for status, count in counts.items()) or "not run"
    )


def write(
    paper: ModuleType, scale: str, folder: Path, entries: Sequence[Entry]
) -> Path:
    """Write report.html, figures/ and verdicts.json into a folder; return the page."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    drawn = [entry._replace(files=_static(entry, figures)) for entry in entries]
    json_values.write_file(folder / "verdicts.json", {"claims": verdicts(entries)})
    return page.write_page(folder / "report.html", _page(paper, scale, drawn))


def _static(entry: Entry, folder: Path, prefix: str = "") -> list[Path]:
    """Write an experiment's figures for print, if it has come so far."""
    if not entry.plots:
        return []
    return write_static(entry.plots, folder, prefix + entry.experiment.name)


def write_results(
    paper: ModuleType, scale: str, folder: Path, name: str, entries: Sequence[Entry]
) -> Path:
    """Write NAME.md and its figures into a folder that is kept in git."""
    made = _page(paper, scale, entries)  # the code before figures are changed
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    figures = {}
    for entry in entries:
        for file in _static(entry, folder / "figures", f"{name}_"):
            if file.suffix == ".png":
                figures[entry.experiment.name] = f"figures/{file.name}"
            else:
                file.unlink()
    path = folder / f"{name}.md"
    path.write_text(markdown.to_markdown(made, figures), encoding="utf-8")
    return path


def _page(paper: ModuleType, scale: str, entries: Sequence[Entry]) -> Page:
    provenance = {
        "hardware": "; ".join(_distinct(e.hardware for e in entries if e.hardware)),
        "code": _code(),
    }
    introduction = f"{paper.INTRODUCTION}\n\n{_INTRODUCTION}"
    return Page(paper.TITLE, introduction, scale, provenance, entries)


def _code() -> str:
    """Return the versions that the report was made with."""
    revision = git_revision(Path(__file__))
    commit = "no git checkout"
    if revision is not None:
        changed = ", with changes" if revision["dirty"] else ""
        commit = f"commit {revision['commit'][:12]}{changed}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax"))
    return f"{commit}; {packages}"


def verdicts(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return each claim with its verdict and criteria, as JSON values."""
    found = []
    for entry in entries:
        for claim in entry.experiment.claims:
            found.append(
                {
                    "experiment": entry.experiment.name,
                    "claim": claim.id,
                    "verdict": verdict_on(claim, entry.criteria),
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
                        for one in of_claim(claim, entry.criteria)
                    ],
                }
            )
    return found
