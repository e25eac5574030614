"""environment: on what a run was made."""

from __future__ import annotations

import importlib.metadata
import platform

from tfgreen.energy.cpu import cpu_identity
from tfgreen.typing import PlainDict
from tfgreen.version import __version__

PACKAGES = ("tensorflow", "keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy", "codecarbon")


def environment() -> PlainDict:
    """Python, operating system, CPU and versions of packages (None: not installed), none of which is imported.

    ``virtual_machine`` is True where a hypervisor is underneath, which makes timings and energy less certain.
    """
    cpu = cpu_identity()
    return {
        "tfgreen": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": platform.platform(),
        "cpu": cpu.model,
        "cores": cpu.threads,
        "virtual_machine": cpu.virtual,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
