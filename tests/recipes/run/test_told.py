"""What of the warnings of a step its record tells."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import tfgreen
from tfgreen.recipes.run.told import own_warnings

OWN = str(Path(tfgreen.__file__).parent / "techniques" / "prune.py")


def test_warnings_of_other_libraries_are_no_part_of_the_record():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.warn_explicit("few samples", UserWarning, OWN, 1)
        warnings.warn_explicit("odd softmax", UserWarning, "/elsewhere/keras/ops.py", 7)
    with pytest.warns(UserWarning, match="odd softmax"):
        assert own_warnings(said) == ["few samples"]
