"""What a client does in a round: train the shared weights on its own data, and keep what is its own.

One model serves all clients in turn. What a client keeps is put into the model before it trains and taken out after:
its optimizer's state, its statistics of BatchNormalization, and what its updates left out so far.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.errors import invalid_state, invalid_value
from tfgreen.federated.codec import UpdateState
from tfgreen.federated.config import FederatedConfig
from tfgreen.model.paths import own_weights, walk

# From the number of a client to its samples: (x, y) or (x, y, sample_weight), arrays or dicts and lists of them.
DataFunction = Callable[[int], "tuple[Any, ...]"]
_STATISTICS = ("moving_mean", "moving_variance")
_EVALUATION_BATCH = 256


@dataclasses.dataclass
class ClientState:
    """What stays at a client between rounds."""

    version: int | None = None
    optimizer: list[np.ndarray] | None = None
    statistics: list[np.ndarray] | None = None
    rest: UpdateState = None


class LocalModel:
    """The compiled model, and which of its weights are shared.

    Args:
        model: Built and compiled; it is trained in place.
        config: Whether statistics are shared, and how clients train.
    """

    def __init__(self, model: keras.Model, config: FederatedConfig) -> None:
        self.model = model
        self._config = config
        kept = statistics_of(model) if config.statistics == "local" else []
        ids = {id(variable) for variable in kept}
        self._kept = kept
        self._shared = [variable for variable in model.weights if id(variable) not in ids]
        seeds = [variable for variable in model.variables if variable.name == "seed_generator_state"]
        self._seeds = list({id(variable): variable for variable in seeds}.values())
        model.optimizer.build(model.trainable_variables)
        self._fresh = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
        self._start = _values(kept)

    @property
    def keeps_statistics(self) -> bool:
        """Whether each client has weights of its own."""
        return bool(self._kept)

    @property
    def names(self) -> list[str]:
        """The paths of the shared weights; of two of one path the second bears its number."""
        paths: dict[str, None] = {}
        for number, variable in enumerate(self._shared):
            paths[variable.path if variable.path not in paths else f"{variable.path} ({number})"] = None
        return list(paths)

    def shared(self) -> list[np.ndarray]:
        """The values of the shared weights."""
        return _values(self._shared)

    def load(self, weights: Sequence[np.ndarray], state: ClientState | None = None) -> None:
        """Put in shared weights, and the statistics of a client, or those of the start."""
        _assign(self._shared, weights)
        own = None if state is None else state.statistics
        _assign(self._kept, self._start if own is None else own)

    def reset(self, weights: Sequence[np.ndarray]) -> None:
        """Put in shared weights, and all else as it was at the start."""
        self.load(weights)
        _assign(self.model.optimizer.variables, self._fresh)

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """The metrics of the compiled model, as ``keras.Model.evaluate`` gives them."""
        self.model.reset_metrics()
        data, logs = (x, y), {}
        for start in range(0, sample_count(data), _EVALUATION_BATCH):
            logs = self.model.test_on_batch(*_rows(data, slice(start, start + _EVALUATION_BATCH)), return_dict=True)
        return {name: float(value) for name, value in logs.items()}

    def train(
        self, weights: Sequence[np.ndarray], state: ClientState, data: tuple[Any, ...], seed: Sequence[int],
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> list[np.ndarray]:
        """Train from shared weights on a client's data, and return them; the state is brought up to date.

        This is ``fit`` without its dataset, of which making one takes longer than most clients' rounds.
        """
        optimizer = self.model.optimizer
        self.load(weights, state)
        _assign(optimizer.variables, self._fresh if state.optimizer is None else state.optimizer)
        rng = np.random.default_rng(seed)
        for variable in self._seeds:
            variable.assign(rng.integers(0, 2**32, variable.shape, np.uint32))
        rows, batch = sample_count(data), self._config.batch_size
        params = {"epochs": self._config.epochs, "steps": -(-rows // batch), "verbose": 0}
        told = keras.callbacks.CallbackList(list(callbacks), model=self.model, **params)
        told.on_train_begin()
        for epoch in range(self._config.epochs):
            told.on_epoch_begin(epoch)
            self.model.reset_metrics()
            order, logs = rng.permutation(rows), {}
            for step, start in enumerate(range(0, rows, batch)):
                told.on_train_batch_begin(step)
                logs = self.model.train_on_batch(*_rows(data, order[start : start + batch]), return_dict=True)
                told.on_train_batch_end(step, logs)
            told.on_epoch_end(epoch, logs)
        told.on_train_end()
        state.optimizer, state.statistics = _values(optimizer.variables), _values(self._kept)
        return self.shared()


def statistics_of(model: keras.Model) -> list[keras.Variable]:
    """The moving means and variances of the model's BatchNormalization layers."""
    found = []
    for _, layer in walk(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            found += [variable for name, variable in own_weights(layer).items() if name in _STATISTICS]
    return list({id(variable): variable for variable in found}.values())


def checked_pair(subject: str, data: Any) -> tuple[Any, ...]:
    """Samples and targets as arrays: at least one sample, and as many of each array."""
    fix = "It is (x, y) or (x, y, sample_weight), arrays of one length."
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise invalid_value(subject, expected="(x, y)", received=type(data).__name__, fix=fix)
    arrays = tuple(keras.tree.map_structure(np.asarray, part) for part in data)
    lengths = {array.shape[0] if array.ndim else 0 for array in keras.tree.flatten(arrays)}
    if len(lengths) != 1 or lengths == {0}:
        raise invalid_value(subject, expected="samples", received=f"arrays of {sorted(lengths)} samples", fix=fix)
    return arrays


def sample_count(data: tuple[Any, ...]) -> int:
    """How many samples a client has."""
    return int(keras.tree.flatten(data)[0].shape[0])


def check_model(model: object) -> keras.Model:
    """Refuse what ``model_fn`` returned unless it is a built and compiled model."""
    if not isinstance(model, keras.Model):
        fix = "model_fn() makes, compiles and returns a model."
        raise invalid_value("model_fn", expected="a keras.Model", received=type(model).__name__, fix=fix)
    if not model.built or not model.compiled:
        what = "built" if not model.built else "compiled"
        raise invalid_state(f"The model that model_fn returned is not {what}.", "Build and compile it in model_fn.")
    return model


def _rows(data: tuple[Any, ...], rows: np.ndarray | slice) -> tuple[Any, ...]:
    return keras.tree.map_structure(lambda array: array[rows], data)


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values):
        variable.assign(value)
