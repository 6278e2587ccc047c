"""What an experiment is: a config, runs of it, and what the paper says of them.

An experiment may answer to several of the paper's claims, each under an id of its own.
Its judge computes numbers from the runs' records alone, and holds each one to a bound.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reproduction.plots import Panel

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
REPORTED, NO_VERDICT = "reported", "no verdict"


class Criterion(NamedTuple):
    """One number beside its bound.

    claim: id of the claim that it belongs to, such as "P1-E1".
    text: what is measured and its bound, such as "Dom: L_end / L_sw >= 0.95".
    values: the number, one a seed; empty where it could not be measured.
    holds: whether the bound holds, of the mean over seeds unless `text` says otherwise;
      None of a number that is only reported, or could not be measured.
    note: why it could not be measured, or whatever a reader has to know.
    """

    claim: str
    text: str
    values: tuple[float, ...]
    holds: bool | None
    note: str = ""


class Run(NamedTuple):
    """A run's records.

    config: as in config.json. status: as in status.json. lines: of metrics.jsonl.
    provenance: one entry for each start.
    """

    config: Mapping[str, Any]
    status: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    provenance: Sequence[Mapping[str, Any]]


Runs = Mapping[str, Run]
"""The runs of an experiment by the names of their points; "" where there is no grid."""


class Claim(NamedTuple):
    """What the paper says.

    id: such as "P1-E1". source: where, such as "Fig. 1". text: in a sentence.
    """

    id: str
    source: str
    text: str


class Experiment(NamedTuple):
    """An experiment of a paper.

    name: of its config file, configs/PAPER/NAME.py, and of its folder.
    title: a few words. claims: what it answers to.
    judge: the numbers, from the runs. plots: the figures, from the runs.
    run: does one of its runs in a folder and returns its status; None: `train.run`.
    is_complete: whether a folder whose run has ended has all that `run` leaves.
    """

    name: str
    title: str
    claims: tuple[Claim, ...]
    judge: Callable[[Runs], Sequence[Criterion]]
    plots: Callable[[Runs], Sequence[Panel]]
    run: Callable[[Any, str], Mapping[str, Any]] | None = None
    is_complete: Callable[[Path], bool] | None = None


def verdict(criteria: Iterable[Criterion]) -> str:
    """Return the verdict on one claim from its criteria.

    "reproduced" if all of them hold, "partly" if some do, "not reproduced" if none
    does, "no verdict" if there are none or one could not be measured, "reported" if
    there is nothing to hold them to.
    """
    criteria = list(criteria)
    if not criteria or any(
        criterion.holds is None and not criterion.values for criterion in criteria
    ):
        return NO_VERDICT
    held = [criterion.holds for criterion in criteria if criterion.holds is not None]
    if not held:
        return REPORTED
    if all(held):
        return REPRODUCED
    return PARTLY if any(held) else NOT_REPRODUCED
