"""Problems with a formula in place of a model, for tests; run as a program, it joins the study in a journal file."""

from __future__ import annotations

import sys
import time

import numpy as np

from tfgreen.recipes.recipe.choices import Choice, Range
from tfgreen.recipes.search.explore import explore
from tfgreen.recipes.search.problem import Bound, Objective, Problem
from tfgreen.recipes.search.space import Space
from tfgreen.recipes.search.study import Study

BYTES = {"int8": 1.0, "float16": 2.0, "float32": 4.0}
SPACE = {"width": Range(0.1, 1.0), "quantization": Choice(tuple(BYTES))}
SMALL = Bound("max_size", "size", 200, unit="B")
DROP = Bound("max_drop", "accuracy", 0.9, at_least=True, trained=True)


def figures(settings, stage):
    """Accuracy grows with the width, the bits and the training, the size with the first two."""
    size = BYTES[settings["quantization"]]
    accuracy = 1 - np.exp(-5 * settings["width"]) / (1 + stage) - 0.02 / size
    return {"accuracy": float(accuracy), "size": 100 * settings["width"] * size}


def problem(bounds=(SMALL, DROP), evaluate=figures, stages=3, **options):
    return Problem(
        space=Space(SPACE), objectives=(Objective("accuracy", True), Objective("size")), evaluate=evaluate,
        bounds=bounds, stages=stages, epochs=lambda settings, stage: (0, 1, 3)[stage], **options,
    )  # fmt: skip


def slow(settings, stage):
    """Says what it does, and takes a while."""
    print(settings["width"], stage, flush=True)
    time.sleep(0.25)
    return figures(settings, stage)


if __name__ == "__main__":
    path, trials = sys.argv[1], int(sys.argv[2])
    explore(problem(evaluate=slow), Study(problem(), "study", storage=path), trials=trials, budget={})
