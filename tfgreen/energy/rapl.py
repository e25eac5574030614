"""The CPU packages' energy counters (RAPL), as Linux shows them in its powercap tree."""

from __future__ import annotations

import os
from pathlib import Path

RAPL_DIR = "/sys/class/powercap/intel-rapl/subsystem"


class RaplCounters:
    """The joules of all packages since :meth:`start`; counters that wrap must be read before they wrap twice.

    Domains inside of a package (cores, memory) and around it (psys) are left out, so that nothing is counted twice;
    a package that two drivers show (``intel-rapl`` and ``intel-rapl-mmio``) counts once.
    """

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    def start(self) -> None:
        """Take the first reading."""
        self._wraps = [int((folder / "max_energy_range_uj").read_text()) for folder in self._folders]
        self._last = self._read()
        self._total = 0

    def joules(self) -> float:
        """What has been used since the start.

        Raises:
            OSError: A counter is gone, or may not be read any more.
        """
        now = self._read()
        for before, after, wrap in zip(self._last, now, self._wraps):
            self._total += after - before if after >= before else after - before + wrap
        self._last = now
        return self._total / 1e6

    def _read(self) -> list[int]:
        return [int((folder / "energy_uj").read_text()) for folder in self._folders]


def rapl_packages() -> tuple[list[Path], str]:
    """The folders of the packages' counters (none where not all can be read), and a phrase about them or why not."""
    base = Path(RAPL_DIR)
    folders = sorted({path.parent.resolve() for root in (base, base.parent) for path in root.glob("*/energy_uj")})
    if not folders:
        return [], "the system shows no CPU energy counters (RAPL), as is usual in virtual machines and containers"
    packages: dict[str, Path] = {}
    for folder in folders:  # in the order of names, "intel-rapl-mmio:0" stands before "intel-rapl:0"
        name = (folder / "name").read_text().strip() if (folder / "name").is_file() else ""
        if name.startswith("package"):
            packages[name] = folder
    if not packages:
        return [], f"no counter below {base.parent} is of a whole package"
    for folder in packages.values():
        if not _readable(folder / "energy_uj"):
            why = "is not permitted (an administrator can allow it; tfgreen never asks for it)"
            return [], f"reading {folder / 'energy_uj'} {why}"
    return list(packages.values()), f"{len(packages)} package counter(s) readable below {base.parent}"


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)
