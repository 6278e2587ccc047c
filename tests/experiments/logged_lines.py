"""Logged lines for the tests of the sinks, and what is to be found in them."""

import os

import numpy as np
import pytest

from experiments import provenance, records, sinks
from tests.experiments.runs import lines_of


def require(package):
    """Skip without the package; with REQUIRE_LOGGERS=1, fail."""
    if provenance.version(package) is None:
        reason = f"needs {package}: make test EXTRAS={package}"
        if os.environ.get("REQUIRE_LOGGERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def line(branch, step, *, seed=0, **metrics):
    """A line as the training loop writes one, NumPy scalars and arrays in it."""
    return {
        "branch": branch,
        "seed": seed,
        "step": step,
        "loss/full": np.float32(0.1 + step),
        "cost/matvecs": np.int32(7 * step),
        "subspace/eigenvalues": np.array([3.0, 2.0, 0.1], np.float32) + step,
        **metrics,
        "time/seconds": 0.5 * step,
    }


def log(config, workdir, lines):
    """Open a run's records and sinks, as a start of the run does, and log."""
    folder = records.open_workdir(workdir, config.to_dict(), ["run"]).path
    with sinks.opened(config, folder) as to_sinks:
        for one in lines:
            records.append_metrics(folder, one)
            to_sinks(one)


def expected(workdir, branch, seed=None):
    """Each metric's steps and values in metrics.jsonl, taken apart by hand."""
    curves = {}
    for logged in lines_of(workdir, branch, seed):
        for name, value in logged.items():
            if isinstance(value, list):
                values = {f"{name}/{i + 1}": item for i, item in enumerate(value)}
            else:
                values = {name: value}
            for key, item in values.items():
                if key not in ("branch", "seed", "step"):
                    curves.setdefault(key, []).append((logged["step"], item))
    assert curves
    return curves


def interrupted(lines):
    yield from lines
    raise KeyboardInterrupt
