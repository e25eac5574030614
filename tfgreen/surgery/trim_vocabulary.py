"""trim_vocabulary: only the rows of a table of tokens that are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfgreen.errors import InvalidValueError, invalid_state, invalid_type, invalid_value, layer_subject
from tfgreen.model.call_spec import call_model, keeping_state, read_call_spec
from tfgreen.model.internals import resize_variable
from tfgreen.model.layer_calls import Around, around_calls
from tfgreen.model.paths import check_built_model, own_weights, walk
from tfgreen.model.rebuild import rebuild
from tfgreen.model.samples import random_samples
from tfgreen.structure import CallSpec
from tfgreen.surgery.saved_sizes import set_config
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Tensors

_AXES = {"embeddings": 0, "lora_embeddings_a": 0, "reverse_embeddings": 1}  # of the tokens, by weight
_TOLERANCE = 1e-4  # of the largest output
_SAMPLES, _LENGTH = 32, 16


def trim_vocabulary(model: keras.Model, used_ids: Sequence[int], layer: str | None = None) -> keras.Model:
    """Return a copy of ``model`` that knows only some tokens: ``used_ids[i]`` of the model is ``i`` of the copy.

    The table of tokens loses its other rows. Where it also makes the logits (a ``ReversibleEmbedding``), these are of
    the used tokens alone; any other output is as before. Give the tokenizer the vocabulary ``[old[i] for i in
    used_ids]``, so that what it returns fits. The outputs are compared with those of the model before you get them.

    Args:
        model: Any built Keras 3 model that takes token ids. It is not changed.
        used_ids: The ids to keep, each once, in the order that they get; 0 first if the table masks it.
        layer: The path of the ``Embedding`` in the model; by default the only one, or the one of most rows.

    Returns:
        A model of the same layers and names, not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or the ids are no integers.
        ValueError: The model is not built or compressed, has no such layer or several of that many rows; an id is not
            in its vocabulary, given twice, or none is; the masked id 0 would be another; the ids that are looked up are
            none of the inputs; or the outputs would change.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> table = keras.layers.Embedding(1000, 4)
        >>> model = keras.Sequential([keras.Input((3,), dtype="int32"), table, keras.layers.Flatten()])
        >>> small = tg.trim_vocabulary(model, [0, 7, 42])
        >>> bool(np.all(small(np.array([[1, 2, 0]])) == model(np.array([[7, 42, 0]]))))
        True
    """
    check_built_model(model)
    if compressed_layers(model):
        raise invalid_state(f"model '{model.name}' is compressed.", "Call tg.strip(model) first.")
    path, table = _table(model, layer)
    subject = layer_subject(path, table)
    ids = _checked_ids(used_ids, table, subject)

    def replace(where: str, operation: keras.Layer) -> keras.Layer:
        inside = [("", operation), *walk(operation)]
        found = [sub for below, sub in inside if "/".join(part for part in (where, below) if part) == path]
        before = {id(weight): tuple(weight.shape) for weight in operation.weights}
        for sub in found:
            for name, weight in own_weights(sub).items():
                if name in _AXES:
                    resize_variable(weight, np.take(weight.numpy(), ids, _AXES[name]))
            sub.input_dim = len(ids)
            if sub is not operation:
                set_config(where, operation, before)
        return operation

    small: keras.Model = rebuild(model, replace)
    error = _difference(model, small, table, ids, subject)
    if error > _TOLERANCE:
        raise invalid_state(
            f"With the vocabulary of {subject} trimmed, the outputs of model '{model.name}' are off by {error:.2g} of "
            "the largest: it reads the ids in another place too.",
            "Pass what it reads there as an input of its own.",
        )
    return small


def _table(model: keras.Model, path: str | None) -> tuple[str, keras.layers.Embedding]:
    tables = {where: sub for where, sub in walk(model) if isinstance(sub, keras.layers.Embedding)}
    if not tables:
        fix = "Leave it as it is: there is no table of tokens to trim."
        raise invalid_state(f"model '{model.name}' has no Embedding.", fix)
    if path is None:
        most = max(sub.input_dim for sub in tables.values())
        largest = [where for where, sub in tables.items() if sub.input_dim == most]
        if len(largest) > 1:
            sentence = f"model '{model.name}' has several Embeddings of {most} rows: {largest}."
            raise invalid_state(sentence, f"Say which is meant: layer='{largest[0]}'.")
        path = largest[0]
    if path not in tables:
        raise invalid_value("layer", expected=f"the path of an Embedding, one of {[*tables]}", received=repr(path))
    if tables[path].quantization_mode:
        subject = layer_subject(path, tables[path])
        raise invalid_state(f"{subject} holds integers, which quantize() of Keras has made.", "Trim it before that.")
    return path, tables[path]


def _checked_ids(used_ids: Sequence[int], table: keras.layers.Embedding, subject: str) -> np.ndarray:
    ids = np.asarray(used_ids)
    if ids.dtype.kind not in "iu" and ids.size:
        raise invalid_type("used_ids", expected="integers", received=used_ids)
    values, counts = np.unique(ids, return_counts=True)
    if ids.ndim != 1 or not ids.size or (counts > 1).any():
        received = f"{values[counts > 1][:8].tolist()} more than once" if ids.ndim == 1 and ids.size else used_ids
        raise invalid_value("used_ids", expected="a list of ids, each once", received=received)
    if ids.min() < 0 or ids.max() >= table.input_dim:
        unknown = values[(values < 0) | (values >= table.input_dim)][:8].tolist()
        raise invalid_value("used_ids", expected=f"ids from 0 to {table.input_dim - 1} ({subject})", received=unknown)
    if table.mask_zero and ids[0] != 0:
        expected, fix = f"0 first, which {subject} masks (mask_zero)", "Put 0 before the others."
        raise invalid_value("used_ids", expected=expected, received=f"{ids[0]} first", fix=fix)
    return ids


def _samples(model: keras.Model, spec: CallSpec) -> dict[str, np.ndarray]:
    """Random samples, where their length is open as short as the model takes them."""
    for length in (_LENGTH, _LENGTH // 2, _LENGTH // 4, 2):
        samples = random_samples(spec, _SAMPLES, length)
        try:
            with keeping_state(model):
                call_model(model, spec, samples)
        except InvalidValueError:  # more than it has positions for
            continue
        return samples
    return random_samples(spec, _SAMPLES, 1)


def _difference(
    model: keras.Model, small: keras.Model, table: keras.layers.Embedding, ids: np.ndarray, subject: str
) -> float:
    """The largest difference between the outputs on used ids, as a share of the largest output."""
    spec = read_call_spec(model)
    samples = _samples(model, spec)
    looked_up: list[np.ndarray] = []

    def around(layer: keras.Layer, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        looked_up.append(np.asarray(keras.tree.flatten((args, kwargs))[0]))
        return call(*args, **kwargs)

    def run(of: keras.Model, tokens: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        values = {name: tokens.get(name, array).astype(array.dtype) for name, array in samples.items()}
        return [np.asarray(leaf, np.float64) for leaf in keras.tree.flatten(call_model(of, spec, values))]

    with keeping_state(model):
        with around_calls([table], around):
            run(model, {})
        read = {name: array for name, array in samples.items() if any(np.array_equal(array, x) for x in looked_up)}
        if not read:
            fix = "Trim what makes the ids (a StringLookup, a Hashing) instead, and train the model anew."
            raise invalid_state(f"{subject} looks up what the model computes, none of its inputs.", fix)
        places = {name: np.random.default_rng(0).integers(0, len(ids), array.shape) for name, array in read.items()}
        expected = run(model, {name: ids[array] for name, array in places.items()})
        got = run(small, places)
    error = 0.0
    for before, after in zip(expected, got, strict=True):
        if before.shape != after.shape:
            axes = [axis for axis, size in enumerate(before.shape) if size != after.shape[axis]]
            before = np.take(before, ids, axes[0])
        error = max(error, float(np.abs(before - after).max() / (np.abs(before).max() or 1.0)))
    return error
