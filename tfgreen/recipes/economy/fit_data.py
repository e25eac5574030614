"""What ``tg.fit`` is given beside the model, as ``keras.Model.fit`` takes it, checked before the training begins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfgreen.checks import check_instance
from tfgreen.errors import FileError, invalid_state, invalid_type, invalid_value
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.economy.training_config import TrainingConfig
from tfgreen.training.check_batches import check_batches
from tfgreen.typing import PlainDict

_BATCHES = (tf.data.Dataset, keras.utils.PyDataset)


def fit_arguments(model: keras.Model, data: Any, config: TrainingConfig) -> PlainDict:
    """What ``keras.Model.fit`` is called with for ``data``."""
    if isinstance(data, (Data, Split)):
        split = data.train if isinstance(data, Data) else data
        arguments = split.fit_arguments(config.batch_size, config.shuffle)
        arguments = {**arguments, "steps_per_epoch": config.steps_per_epoch}
    elif isinstance(data, _BATCHES):
        shuffle = config.shuffle and not isinstance(data, tf.data.Dataset)  # which is shuffled by the user, or not
        arguments = {"x": data, "shuffle": shuffle, "steps_per_epoch": config.steps_per_epoch}
    else:
        _check_arrays("data", data)
        names = ("x", "y", "sample_weight")
        fixed = {"batch_size": config.batch_size, "shuffle": config.shuffle, "steps_per_epoch": config.steps_per_epoch}
        arguments = {**dict(zip(names, data)), **fixed}
    _check_given(model, "data", arguments["x"])
    return arguments


def validation_arguments(model: keras.Model, validation_data: Any, data: Any, config: TrainingConfig) -> Any:
    """What ``keras.Model.fit`` takes as ``validation_data``; the validation split of a ``tg.Data`` where none came."""
    if validation_data is None and isinstance(data, Data) and "validation" in data.splits:
        validation_data = data
    if isinstance(validation_data, Data):
        if "validation" not in validation_data.splits:
            raise invalid_state("The tg.Data that came as validation_data has no validation split.", "Pass data.test.")
        validation_data = validation_data.validation
    if isinstance(validation_data, Split):
        validation_data = validation_data.validation_data(config.batch_size)
    if validation_data is None:
        return None
    if isinstance(validation_data, _BATCHES):
        _check_given(model, "validation_data", validation_data)
        if isinstance(validation_data, tf.data.Dataset) and int(validation_data.cardinality()) == -1:
            fix = "Leave repeat() out, or pass dataset.take(100)."
            received = "one without end"
            raise invalid_value("validation_data", expected="a dataset that ends", received=received, fix=fix)
        return validation_data
    given = tuple(validation_data) if isinstance(validation_data, list) else validation_data
    _check_arrays("validation_data", given)
    return given


def steps_of(arguments: PlainDict, config: TrainingConfig) -> int | None:
    """The batches of an epoch, None where that is not known."""
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    data = arguments["x"]
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        if count == tf.data.INFINITE_CARDINALITY:
            fix = "Pass steps_per_epoch, or a dataset without repeat()."
            raise invalid_value("data", expected="a dataset that ends", received="one without end", fix=fix)
        return count if count > 0 else None
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    return -(-len(keras.tree.flatten(data)[0]) // config.batch_size)


def callback_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Callbacks in the forms in which Keras takes them: one, several or none."""
    if isinstance(callbacks, keras.callbacks.Callback):
        return [callbacks]
    if callbacks is None:
        return []
    check_instance("callbacks", callbacks, Sequence, "a list of Keras callbacks")
    for callback in callbacks:
        check_instance("callbacks", callback, keras.callbacks.Callback, "Keras callbacks, such as tg.EnergyLogger()")
    return list(callbacks)


class AnyBatch(keras.callbacks.Callback):
    """Raises at the end of an epoch, or of a validation, of no batch: for data of which the length is not known."""

    _training = _testing = False

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        self._training = True

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        if not self._training:
            raise invalid_value("data", expected="at least one batch", received="a dataset of none")

    def on_test_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        self._testing = True

    def on_test_end(self, logs: PlainDict | None = None) -> None:
        if not self._testing:
            raise invalid_value("validation_data", expected="at least one batch", received="a dataset of none")


@contextlib.contextmanager
def naming_damaged_records() -> Iterator[None]:
    """In the block, an error of ours where a TFRecord file turns out to be damaged."""
    try:
        yield
    except tf.errors.DataLossError as error:
        said = error.message.split("[[{{")[0].strip().splitlines()[-1]
        raise FileError(f"data: expected whole TFRecord files, received damaged ones: {said}.") from error


def _check_given(model: keras.Model, name: str, x: Any) -> None:
    if isinstance(x, tf.data.Dataset):
        check_batches(model, x, name)
    elif isinstance(x, keras.utils.PyDataset) and x.num_batches == 0:
        raise invalid_value(name, expected="at least one batch", received="a PyDataset of none")


def _check_arrays(name: str, data: Any) -> None:
    if not isinstance(data, tuple) or not 2 <= len(data) <= 3:
        expected = "(x, y), (x, y, sample_weight), a tf.data.Dataset, a PyDataset, a tg.Data or a tg.Split"
        fix = "Pass (x, y)." if hasattr(data, "shape") else ""
        raise invalid_type(name, expected=expected, received=data, fix=fix)
    leaves = [leaf for part in data for leaf in keras.tree.flatten(part) if leaf is not None]
    for leaf in leaves:
        if not hasattr(leaf, "shape") or not len(leaf.shape):
            fix = "Make arrays of lists: np.asarray(x)."
            raise invalid_type(name, expected="arrays with the samples on the first axis", received=leaf, fix=fix)
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) != 1 or 0 in lengths:
        expected = "arrays of as many samples, at least one"
        raise invalid_value(name, expected=expected, received=f"{sorted(lengths)} samples")
