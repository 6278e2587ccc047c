"""Fixtures for all tests."""

import os

# Threads of BLAS wait busily for each other: on loaded cores, `eigh` of a small matrix
# takes a second instead of milliseconds. Read when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import jax
import pytest

# Most of the tests' time is compilation, and nothing tested here depends on speed: so
# compile several times faster, here and, through the environment, in the processes that
# tests start. Set JAX_DISABLE_MOST_OPTIMIZATIONS=0 to test fully optimized programs.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    jax.config.update("jax_disable_most_optimizations", True)
    fast = "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_multi_thread_eigen=false"
    if jax.__version_info__ < (0, 11):  # where XLA still has its other code generator
        fast += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}"

# Helpers that assert say, as tests do, what they have compared.
pytest.register_assert_rewrite("tests.dominant", "tests.experiments")


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    """Runs that are resumed, or trained in several ways, compile one program again."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))


@pytest.fixture(scope="module", autouse=True)
def _flags():
    """A command may change XLA's flags, for the processes that are started later."""
    before = os.environ.get("XLA_FLAGS", "")
    yield
    os.environ["XLA_FLAGS"] = before


@pytest.fixture(scope="module", autouse=True)
def _memory():
    """Give back what a module's compiled programs hold: gigabytes, over all modules."""
    yield
    jax.clear_caches()


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
