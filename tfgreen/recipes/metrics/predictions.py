"""What a Keras model or a file predicts of a split, beside the targets."""

from __future__ import annotations

from typing import Any

import keras

from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.samples import joined
from tfgreen.recipes.data.split import Split
from tfgreen.structure import leaf_names, match, name_leaves


def predictions_of(model: keras.Model | LiteRTModel, split: Split) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a model predicts of a split, and its targets, by the name of the output; each shape ``(samples, ...)``.

    Raises:
        TypeError: ``model`` is something else.
        ValueError: The split has no targets or no samples, or does not fit the model.
    """
    given = split.evaluate_arguments()
    if isinstance(model, LiteRTModel):
        predict, names = model.predict, leaf_names(model.output_structure)
    elif isinstance(model, keras.Model):
        predict = model.predict_on_batch if split.in_batches else lambda x: model.predict(x, verbose=0)
        names = list(getattr(model, "output_names", None) or [])
    else:
        raise invalid_type("model", expected="a Keras model or a tg.LiteRTModel", received=model)
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for x, y, *_ in given["x"] if split.in_batches else [(given["x"], given["y"])]:
        structure, leaves = name_leaves(predict(x), lambda _, i: names[i] if i < len(names) else f"output_{i}")
        found.append((dict(zip(leaf_names(structure), leaves)), match(structure, y, f"y_{split.name}")))
    if not found:
        raise invalid_value(f"x_{split.name}", expected="at least one sample", received=0)
    sides = ({name: joined([batch[side][name] for batch in found], name) for name in found[0][side]} for side in (0, 1))
    predictions, targets = sides
    return predictions, targets
