"""The version is that of the package's metadata."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import tfgreen
from tfgreen.version import __version__


def test_version_is_one_and_readable_without_importing_the_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+([.+-]?\w+)*", __version__) and tfgreen.__version__ == __version__
    setup = configparser.ConfigParser()
    setup.read(Path(tfgreen.__file__).parents[1] / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: tfgreen.version.__version__"
