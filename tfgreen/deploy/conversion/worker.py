"""The process that converts a model on which TensorFlow's converter may crash: settings in, one file out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow  # noqa: F401 - it logs on import, which is to come before what is worth telling

from tfgreen.deploy.conversion import converter
from tfgreen.errors import ConversionError


def main(folder: str, settings: Mapping[str, Any]) -> None:
    """Convert ``folder/saved_model``; leave the result, or the converter's reason for refusing, in ``folder``.

    Args:
        folder: Of the conversion; it holds the samples too, if any.
        settings: The fields of :class:`tfgreen.deploy.conversion.converter.ConverterSettings`.
    """
    sys.stderr.write(converter.STARTED)
    sys.stderr.flush()
    here, samples = Path(folder), None
    if (here / converter.CALIBRATION).exists():
        with np.load(here / converter.CALIBRATION) as data:
            samples = [data[f"arr_{i}"] for i in range(len(data.files))]
    try:
        converter.run_converter(here, converter.ConverterSettings(**settings), samples)
    except ConversionError as error:
        (here / converter.FAILURE).write_text(str(error))
