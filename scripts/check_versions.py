"""The tests in an environment of its own for each combination of versions that is supported: prints a table.

    python scripts/check_versions.py                                      # the fast tests, everywhere
    python scripts/check_versions.py --keras 3.12 --tests tests/techniques tests/deploy/test_convert.py
    python scripts/check_versions.py --plan                               # only says what would be run

Pythons are those of ``--python`` that are on this machine, TensorFlows those that ``setup.cfg`` allows. A combination
that pip cannot install is a row too. Exit code: 0 if all that was run passed, else 1.
"""

from __future__ import annotations

import argparse
import configparser
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYTHONS, KERAS, TENSORFLOWS = ("3.11", "3.12", "3.13"), ("3.12", "newest"), ("2.19", "2.20", "2.21")
HEADING = "| Python | Keras | TensorFlow | LiteRT | tests | result |\n|---|---|---|---|---|---|"
_READ = """
import json, platform
from importlib.metadata import version
print(json.dumps([platform.python_version(), *map(version, ("keras", "tensorflow", "ai-edge-litert"))]))
"""


class Combination(NamedTuple):
    python: str
    keras: str
    tensorflow: str

    @property
    def requirements(self) -> list[str]:
        keras = "keras" if self.keras == "newest" else f"keras=={self.keras}.*"
        return [keras, f"tensorflow=={self.tensorflow}.*"]


def allowed(package: str, release: str) -> bool:
    """Whether ``setup.cfg`` takes some version ``release.*`` of a package."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split("\n")
    wanted = next(found for line in lines if line for found in [Requirement(line)] if found.name == package)
    return any(wanted.specifier.contains(f"{release}.{patch}") for patch in range(20))


def has_python(release: str) -> bool:
    try:  # a version manager has a command for Pythons that are not there, too
        return subprocess.run([f"python{release}", "-c", "import venv"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def combinations(
    pythons: Sequence[str], keras: Sequence[str], tensorflows: Sequence[str]
) -> Iterator[tuple[Combination, str]]:
    """Each combination with the reason why it is not run, or ""."""
    for one in itertools.starmap(Combination, itertools.product(pythons, keras, tensorflows)):
        reason = ""
        if not has_python(one.python):
            reason = f"python{one.python} is not on this machine"
        elif not allowed("tensorflow", one.tensorflow):
            reason = "setup.cfg does not allow this TensorFlow"
        elif one.keras != "newest" and not allowed("keras", one.keras):
            reason = "setup.cfg does not allow this Keras"
        yield one, reason


def outcome(output: str, code: int) -> str:
    """What pytest says in its last line: "2 failed, 317 passed"."""
    counts = re.findall(r"\d+ (?:passed|failed|errors?|skipped)", output)
    return ", ".join(counts[-4:]) if counts else f"pytest ended with {code}"


def check(combination: Combination, tests: Sequence[str]) -> tuple[bool, str]:
    """Whether the tests pass in an environment made for it, and its row of the table."""
    shown = " ".join(f"`{path}`" for path in tests) or "the fast tests"
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder, "bin", "python"))
        subprocess.run([f"python{combination.python}", "-m", "venv", folder], check=True)
        # A copy, as a build leaves files beside its source.
        left_out = shutil.ignore_patterns(".git", "build", "*.egg-info")
        copy = shutil.copytree(ROOT, Path(folder, "source"), ignore=left_out)
        install = [python, "-m", "pip", "install", "--quiet", f"{copy}[test]", *combination.requirements]
        installed = subprocess.run(install, capture_output=True, text=True)
        if installed.returncode:
            print(installed.stderr, file=sys.stderr)
            return True, row([*combination, "", shown, "pip finds no versions that go together"])
        versions = json.loads(subprocess.run([python, "-c", _READ], capture_output=True, text=True, check=True).stdout)
        run = subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=copy, capture_output=True, text=True)
    if run.returncode:
        print(run.stdout[-8000:], file=sys.stderr)
    return run.returncode == 0, row([*versions, shown, outcome(run.stdout, run.returncode)])


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="VERSION")
    parser.add_argument("--keras", nargs="+", default=KERAS, metavar="VERSION")
    parser.add_argument("--tensorflow", nargs="+", default=TENSORFLOWS, metavar="VERSION")
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH", help="instead of all that are fast")
    parser.add_argument("--plan", action="store_true", help="only say which combinations would be run")
    options = parser.parse_args()
    passed = True
    print(HEADING, flush=True)
    for combination, reason in combinations(options.python, options.keras, options.tensorflow):
        if reason or options.plan:
            print(row([*combination, "", "", f"not run: {reason}" if reason else "would be run"]), flush=True)
            continue
        holds, line = check(combination, options.tests)
        passed &= holds
        print(line, flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
