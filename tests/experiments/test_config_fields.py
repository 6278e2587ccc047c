"""No field of a config is there for nothing."""

import re
from pathlib import Path

import pytest

from configs import defaults
from experiments.json_values import flatten

SOURCES = "\n".join(
    path.read_text(encoding="utf-8") for path in Path("experiments").rglob("*.py")
)
FIELDS = sorted(flatten(defaults.get_config().to_dict()))


def is_read(name):
    """Whether code reads an attribute or a key of this name."""
    return re.search(rf"""\.{name}\b|["']{name}["']""", SOURCES) is not None


@pytest.mark.parametrize("field", FIELDS)
def test_some_code_reads_each_field(field):
    assert all(is_read(part) for part in field.split("."))


def test_a_field_that_no_code_reads_is_seen():
    assert not is_read("learning_rat")
    assert not is_read("batch_sizes_of_nothing")
