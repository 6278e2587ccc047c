"""Where a result comes from: code, versions, machine."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("dominant", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def provenance(argv: Sequence[str]) -> dict[str, Any]:
    """Describe the process that is about to run, as a JSON object.

    `git` is None outside a checkout, and so is the version of a package that is not
    installed (`dominant`, when it is run from a checkout).
    """
    devices = jax.devices()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": list(argv),
        "git": git_revision(Path(__file__)),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "processor": {"name": processor(), "cores": os.cpu_count()},
        "devices": {"kind": devices[0].device_kind, "count": len(devices)},
        "precision": {
            name: getattr(jax.config, name)
            for name in ("jax_enable_x64", "jax_default_matmul_precision")
        },
    }


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def git_revision(source: Path) -> dict[str, Any] | None:
    """Return the commit that holds the file `source`, and if tracked files differ.

    None when there is no git, no commit, or a checkout that does not track the file (a
    virtual environment inside some other project).
    """
    try:
        _git("ls-files", "--error-unmatch", source.name, folder=source.parent)
        commit = _git("rev-parse", "HEAD", folder=source.parent)
        changes = _git("status", "--porcelain", "-uno", folder=source.parent)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str, folder: Path) -> str:
    """Return what a git command says about the checkout around `folder`."""
    result = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return result.stdout.strip()


def version(package: str) -> str | None:
    """Return an installed package's version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
