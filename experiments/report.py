"""The report of a run: one page and one picture, from its records alone.

    python -m experiments.report WORKDIR

writes `report.html`, which needs no other file and no network, and `figure.png`.
"""

import argparse
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from experiments import figures, page, records, tables
from experiments.figures import LABELS
from experiments.json_values import flatten
from experiments.summary import (
    BRANCHES,
    BranchSummary,
    Line,
    Summary,
    lines_of_seed,
    summarize,
    summarize_seeds,
)

_QUESTION = """
<p>The dominant space is spanned by the eigenvectors of the Hessian's {k} largest
eigenvalues. After a common warm-up, training goes on from one state in several ways:
<b>plain</b> with the full updates, <b>Dom</b> with only their part inside the dominant
space, <b>Bulk</b> with everything but that part. Which of them still learn?</p>
"""

_LOSS_EXPLAINED = """
The loss over the whole training set, not over a batch. Grey is the common warm-up; the
dashed line marks the switch, where the branches leave from one and the same state. In
(a) and (b), a branch's pale curve is what was logged, the solid one its running mean
over a hundredth of the branch; of several seeds each has its running mean.
"""

_ALIGNMENT_EXPLAINED = """
χ<sub>{k}</sub> = |P g| / |g|, the length of the full gradient's part in the dominant
space over the length of the whole gradient: a ratio of norms between 0 and 1, whose
square is the share of the energy. {switch}
"""

_SPECTRUM_EXPLAINED = """
The largest eigenvalues of the training loss's Hessian along warm-up and plain branch:
the {k} of the dominant space in colour, the next ones in grey. The wider the gap
between the two groups, the better the dominant space is defined.
"""


class Panel(NamedTuple):
    """One picture of a run, and what to read in it (as HTML)."""

    title: str
    draw: figures.Draw
    explanation: str


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="experiments.report", description=__doc__)
    parser.add_argument("workdir", help="the folder that the run was given")
    print(write_report(parser.parse_args(argv).workdir))


def write_report(workdir: records.Location) -> Path:
    """Write `report.html` and `figure.png` into a run's folder; return the page's path.

    Reads config.json, provenance.json, status.json and metrics.jsonl. The run may still
    be going on: the page then says so.
    """
    config = records.read_config(workdir)
    status = records.read_status(workdir)
    lines: Sequence[Line] = records.read_metrics(workdir)
    runs = records.read_provenance(workdir)
    summaries = summarize_seeds(config, status, lines)
    seed = min(summaries, default=config.get("seed", 0))
    if len(summaries) > 1:
        summary = summaries[seed]
        drawn = [
            figures.Seed(lines_of_seed(lines, one), summaries[one].switch_step)
            for one in summaries
        ]
    else:
        summary = summaries.get(seed) or summarize(config, status, lines)
        drawn = [figures.Seed(lines, summary.switch_step)]
    panels = _panels(config, drawn)
    figures.save_png(
        Path(workdir) / "figure.png",
        {f"({letter}) {panel.title}": panel.draw for letter, panel in panels.items()},
    )
    body = [
        _introduction(config, summary),
        _seeds(summaries, seed),
        _key(summary),
        page.side_by_side(_figure(letter, panel) for letter, panel in panels.items()),
        tables.results(summary),
        tables.certificate_table(summary),
        tables.cost_table(summary),
        page.details("Configuration", page.fields(flatten(config))),
        page.details("Provenance", tables.provenance_tables(runs)),
    ]
    path = Path(workdir) / "report.html"
    title = config.get("title", "Run")
    path.write_text(page.render(title, body), encoding="utf-8")
    return path


def _panels(
    config: Mapping[str, Any], seeds: Sequence[figures.Seed]
) -> dict[str, Panel]:
    """Return the panels of the main figure by their letters."""
    k, threshold = config["subspace"]["k"], _threshold(config)
    decided = (
        "The switch comes at a step that the configuration names."
        if threshold is None
        else "The switch comes when its moving average passes the threshold."
    )
    panels = {
        "a": Panel(
            "Loss", lambda axes: figures.draw_loss(axes, seeds), _LOSS_EXPLAINED
        ),
        "b": Panel(
            "Alignment",
            lambda axes: figures.draw_alignment(axes, seeds, k, threshold),
            _ALIGNMENT_EXPLAINED.format(k=k, switch=decided),
        ),
    }
    first = seeds[0]
    if figures.spectrum_lines(first.lines):
        left_out, total = figures.num_not_positive(first.lines)
        note = " Of the first seed." * (len(seeds) > 1)
        note += f" Not drawn, as not positive: {left_out} of {total}." * bool(left_out)
        panels["c"] = Panel(
            "Spectrum",
            lambda axes: figures.draw_spectrum(axes, first, k),
            _SPECTRUM_EXPLAINED.format(k=k) + note,
        )
    return panels


def _threshold(config: Mapping[str, Any]) -> float | None:
    """Return the alignment at which the switch comes; None if it comes at a step."""
    switch = config.get("switch", {})
    return None if switch.get("step", 0) > 0 else switch.get("threshold")


def _key(summary: Summary) -> str:
    """Return which colour is which part of the run."""
    return "".join(
        f'<span class="key {part}"><span class="ink">{LABELS[part]}</span></span>'
        for part in summary.cost
    )


def _figure(letter: str, panel: Panel) -> str:
    """Return one panel with its explanation."""
    name = f"({letter}) {panel.title}"
    return f"""<figure>{figures.panel_svg(panel.draw, name)}
<figcaption><b>{name}.</b> {panel.explanation}</figcaption></figure>
"""


def _introduction(config: Mapping[str, Any], summary: Summary) -> str:
    """Say what was asked and what came out, in plain words."""
    verdicts = {branch.branch: _sentence(branch) for branch in summary.branches}
    stated = config.get("claims") or {}
    texts = {name: claim.get("text") for name, claim in stated.items()}
    claims = "".join(
        f"<li><b>{LABELS[name]}</b>: {escape(texts[name].rstrip('.'))}."
        f"{verdicts.get(name, '')}</li>"
        for name in BRANCHES
        if texts.get(name)
    )
    claimed = (
        f"<p>The paper's claims, and this run:</p><ul>{claims}</ul>" if claims else ""
    )
    notes = "".join(f'<p class="note">{note}</p>' for note in _outcome(config, summary))
    return _QUESTION.format(k=config["subspace"]["k"]) + claimed + notes


def _seeds(summaries: Mapping[int, Summary], seed: int) -> str:
    """Return the numbers over all seeds; nothing for a run of one."""
    if len(summaries) < 2:
        return ""
    of_one = f"The sentences above and the tables below are of seed {seed}."
    return tables.over_seeds(summaries) + f'<p class="note">{of_one}</p>'


def _sentence(branch: BranchSummary) -> str:
    """Return a branch's result as the sentence after its claim."""
    ratio = tables.number(branch.ratio, "{:.3f}")
    verdict = tables.verdict(branch)
    return f" Here it ends at {ratio} of the loss before the switch: {verdict}."


def _outcome(config: Mapping[str, Any], summary: Summary) -> list[str]:
    """Say what a reader must know before any number."""
    notes = []
    if summary.status == "running":
        notes.append("This run has not ended: all numbers are provisional.")
    if summary.status == "interrupted":
        notes.append("This run was interrupted and can be resumed.")
    if summary.switch_step is None:
        step, threshold = tables.text(summary.last_step), _threshold(config)
        reason = (
            f"up to step {step}, the moving average of the alignment did not pass "
            f"{tables.text(threshold)}"
        )
        if threshold is None:
            reason = f"the warm-up has come to step {step}"
        notes.append(
            f"The switch has not come: {reason}. There are no branches to compare and "
            "there is no verdict."
        )
        if summary.status == "diverged":
            notes.append("The warm-up diverged: it met numbers that are not finite.")
    notes += [
        f"{LABELS[branch.branch]} diverged: at step {tables.text(branch.step)} it met "
        "numbers that are not finite."
        for branch in summary.branches
        if branch.status == "diverged"
    ]
    return notes


if __name__ == "__main__":
    main()
