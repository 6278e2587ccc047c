"""Fixtures for all tests."""

import os
import tempfile
from pathlib import Path

import jax
import pytest

# Most of the tests' time is compilation, and none of their results depends on it.
jax.config.update("jax_disable_most_optimizations", True)
# Runs that are resumed, or trained in several ways, compile the same program again.
_CACHE = tempfile.TemporaryDirectory(prefix="compiled-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)


@pytest.fixture(scope="session")
def tfds_data_dir() -> Path:
    """The folder of prepared data sets; without one, tests that need it are skipped.

    Set REQUIRE_DATA=1 where they must not be.
    """
    folder = os.environ.get("TFDS_DATA_DIR")
    if folder:
        return Path(folder)
    reason = "needs TFDS_DATA_DIR, a folder with prepared data sets"
    if os.environ.get("REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
