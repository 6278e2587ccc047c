"""Compiled programs, kept from one process to the next."""

import os
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Have XLA keep what it compiles, unless JAX_COMPILATION_CACHE_DIR already says so.

    In `dominant/compiled` of the user's cache folder.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(caches) / "dominant" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
