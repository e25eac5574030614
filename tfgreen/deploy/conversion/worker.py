"""The process that converts a model on which TensorFlow's converter may crash: settings in, one file out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow  # noqa: F401 - it logs on import, which is to come before what is worth telling

from tfgreen.deploy.conversion import converter
from tfgreen.errors import ConversionError


def main(folder: str) -> None:
    """Convert ``folder/saved_model``; leave the result, or the converter's reason for refusing, in ``folder``."""
    here, samples = Path(folder), None
    if (here / converter.CALIBRATION).exists():
        with np.load(here / converter.CALIBRATION) as data:
            samples = [data[f"arr_{i}"] for i in range(len(data.files))]
    settings = converter.ConverterSettings(**json.loads((here / converter.SETTINGS).read_text()))
    sys.stderr.write(converter.STARTED)
    sys.stderr.flush()
    try:
        converter.run_converter(here, settings, samples)
    except ConversionError as error:
        (here / converter.FAILURE).write_text(str(error))
