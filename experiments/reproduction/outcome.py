"""What a report is made from: the experiments as they were run, and what came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reproduction.experiment import Claim, Criterion, Experiment
from experiments.reproduction.plots import Panel
from experiments.reproduction.words import verdict_on


class Entry(NamedTuple):
    """An experiment as it was run.

    experiment: what it is. criteria, plots: what its judge and its plots gave.
    changes: the config fields that the scale changed: (the full scale's value, ours).
    command: to run it again. config: its fields by dotted names. status: in words, such
    as "finished". seconds: in all; None where unknown. hardware: in words.
    files: the figures for print (`static.write_static`).
    """

    experiment: Experiment
    criteria: Sequence[Criterion]
    plots: Sequence[Panel]
    changes: Mapping[str, tuple[Any, Any]]
    command: str
    config: Mapping[str, Any]
    status: str
    seconds: float | None
    hardware: str
    files: Sequence[Path] = ()


class Page(NamedTuple):
    """A report.

    title. introduction: plain text, an empty line between paragraphs. scale: its name,
    such as "quick". provenance: whatever a reader has to know of how it was made
    (hardware, commit, versions, ...), by name. entries: in order.
    """

    title: str
    introduction: str
    scale: str
    provenance: Mapping[str, str]
    entries: Sequence[Entry]


def check(page: Page) -> None:
    """See that links and verdicts are unambiguous and that no criterion is lost.

    Raises:
      ValueError: for two experiments of one name or two claims of one id, and for a
        criterion of a claim that its experiment lacks.
    """
    names = [entry.experiment.name for entry in page.entries]
    ids = [claim.id for entry in page.entries for claim in entry.experiment.claims]
    for what, given in (("experiments", names), ("claims", ids)):
        twice = sorted({one for one in given if given.count(one) > 1})
        if twice:
            raise ValueError(f"{what} of one name: {', '.join(twice)}")
    for entry in page.entries:
        known = [claim.id for claim in entry.experiment.claims]
        for criterion in entry.criteria:
            if criterion.claim not in known:
                raise ValueError(
                    f"a criterion of {entry.experiment.name!r} belongs to the claim "
                    f"{criterion.claim!r}, but expected one of: {', '.join(known)}"
                )


def claims(page: Page) -> list[tuple[Entry, Claim, str]]:
    """Return all claims with their verdicts."""
    return [
        (entry, claim, verdict_on(claim, entry.criteria))
        for entry in page.entries
        for claim in entry.experiment.claims
    ]
