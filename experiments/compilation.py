"""How programs are compiled: what is avoided, and that they are kept."""

import os
from pathlib import Path

import jax
import jaxlib

_WRONG_IN = ("0.10.2",)
_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"


def without_wrong_fusions() -> None:
    """Have XLA do without the fusions that jaxlib 0.10.2 gets wrong on a CPU.

    There a product of a matrix with mapped vectors that is then summed may be wrong for
    all vectors but the first, without a word (jax issue 39103). Before the first
    computation of a process; another jaxlib, and a choice that XLA_FLAGS already makes,
    are left alone.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__ in _WRONG_IN and _FUSIONS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_FUSIONS}=".strip()


def keep_compiled_programs() -> None:
    """Have XLA keep what it compiles, unless JAX_COMPILATION_CACHE_DIR already says so.

    In `dominant/compiled` of the user's cache folder.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(caches) / "dominant" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
