"""The process that converts a model on which TensorFlow's converter may crash: settings in, one file out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfgreen.deploy.conversion.converter import CALIBRATION, FAILURE, RESULT, SETTINGS, ConverterSettings, run_converter
from tfgreen.errors import ConversionError


def main(folder: str) -> None:
    """Convert ``folder/saved_model``; leave the result, or the converter's reason for refusing, in ``folder``."""
    here = Path(folder)
    samples = None
    if (here / CALIBRATION).exists():
        with np.load(here / CALIBRATION) as data:
            samples = [data[f"arr_{i}"] for i in range(len(data.files))]
    try:
        settings = ConverterSettings(**json.loads((here / SETTINGS).read_text()))
        content = run_converter(here, settings, samples)
    except ConversionError as error:
        (here / FAILURE).write_text(str(error))
    else:
        # Renamed into place: a worker that dies while writing must not leave half a result.
        (here / f"{RESULT}.part").write_bytes(content)
        (here / f"{RESULT}.part").rename(here / RESULT)
