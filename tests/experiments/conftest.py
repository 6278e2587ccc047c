"""Fixtures for the tests of the experiments."""

import pytest

from experiments import train


@pytest.fixture(scope="module")
def kept_programs():
    """Let the runs of one config share one compiled program."""
    make, kept = train.programs, {}

    def make_once(config, task):
        key = config.to_json(sort_keys=True)
        if key not in kept:
            kept[key] = make(config, task)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "programs", make_once)
        yield
