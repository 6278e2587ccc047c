"""What came out of an experiment, in words: of a criterion, and of a claim."""

from collections.abc import Iterable, Sequence

import numpy as np

from experiments.reproduction.experiment import (
    NO_VERDICT,
    NOT_REPRODUCED,
    PARTLY,
    REPORTED,
    REPRODUCED,
    Claim,
    Criterion,
    verdict,
)
from experiments.tables import number

VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NO_VERDICT, REPORTED)
"""All verdicts, in the order in which they are counted."""


def of_claim(claim: Claim, criteria: Iterable[Criterion]) -> list[Criterion]:
    """Return the criteria of one claim."""
    return [criterion for criterion in criteria if criterion.claim == claim.id]


def verdict_on(claim: Claim, criteria: Iterable[Criterion]) -> str:
    """Return the verdict on a claim, from those criteria that are its own."""
    return verdict(of_claim(claim, criteria))


def value(criterion: Criterion) -> str:
    """Return mean ± standard deviation (n - 1) and the number of seeds, or a dash.

    One number alone may be of one seed or of all of them. Infinite ones are counted.
    """
    seeds = len(criterion.values)
    if not seeds:
        return "–"
    mean = number(float(np.mean(criterion.values)), "{:.4g}")
    if seeds == 1:
        return mean
    infinite = int(np.sum(~np.isfinite(criterion.values)))
    if infinite:
        return f"{mean} ({infinite} of {seeds} seeds)"
    deviation = float(np.std(criterion.values, ddof=1))
    return f"{mean} ± {number(deviation, '{:.2g}')} ({seeds} seeds)"


def holds(criterion: Criterion) -> str:
    """Return "yes", "no", "not measured", or "no bound" for what is only reported."""
    if criterion.holds is not None:
        return "yes" if criterion.holds else "no"
    return "no bound" if criterion.values else "not measured"


def count(verdicts: Sequence[str]) -> str:
    """Return how many of the claims got which verdict, in a sentence."""
    counts = {word: verdicts.count(word) for word in VERDICTS}
    found = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    claims = "1 claim" if len(verdicts) == 1 else f"{len(verdicts)} claims"
    return f"Of {claims}: {found}."


def shortfall(claim: Claim, criteria: Iterable[Criterion], status: str) -> str:
    """Say why a claim is not, or not wholly, reproduced; "" for one that is.

    status: of the experiment, which is the reason where nothing was measured.
    """
    own = of_claim(claim, criteria)
    word = verdict_on(claim, own)
    if word == REPRODUCED:
        return ""
    if word == REPORTED:
        return "There is no bound to hold the numbers to."
    if not own:
        return f"Nothing was measured (status: {status})."
    if word == NO_VERDICT:
        missing = (c for c in own if not c.values and c.holds is None)
        notes = (
            c.text + (f" ({c.note.rstrip('.')})" if c.note else "") for c in missing
        )
        return f"Not measured: {'; '.join(notes)}."
    bounded = [c for c in own if c.holds is not None]
    failed = [c for c in bounded if not c.holds]
    listed = "; ".join(f"{c.text}, but here {value(c)}" for c in failed)
    return f"{len(failed)} of {len(bounded)} criteria not met: {listed}."


def run(
    status: str, seconds: float | None, hardware: str, seeds: int | None = None
) -> str:
    """Return how runs ended, in which time, of how many seeds each, and where."""
    time = "" if seconds is None else f" in {duration(seconds)}"
    each = "" if seeds is None else f", {seeds} seed{'s' * (seeds > 1)} each"
    return f"Status: {status}{time}{each}, on {hardware}."


def duration(seconds: float) -> str:
    """Return a time in two of its units at most, such as "1 h 12 min"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
