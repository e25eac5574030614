"""What a client does in a round: train the shared weights on its own data, and keep what is its own.

One model serves all clients in turn. What a client keeps is put into the model before it trains and taken out after:
its optimizer's state, its statistics of BatchNormalization, and what its updates left out so far.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.errors import InvalidValueError
from tfgreen.federated.account import FederatedRun, Round
from tfgreen.federated.aggregation import PLAIN
from tfgreen.federated.arguments import sample_count
from tfgreen.federated.clusters import Clusters
from tfgreen.federated.coding.codec import UpdateState
from tfgreen.federated.config import FederatedConfig
from tfgreen.federated.proximal import ProximalTerm
from tfgreen.model.paths import own_weights, walk

_STATISTICS = ("moving_mean", "moving_variance")
_STATISTICS_NOTE = (
    "The statistics of BatchNormalization stayed at the clients: those of .model are of its start. Take "
    ".client_model(client), or tg.recalibrate_batch_norm(run.model, x)."
)
_COUNTER = re.compile(r"_\d+(?=/)")
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
        self._clusters = Clusters(model)
        ids = {id(variable) for variable in [*kept, *self._clusters.variables]}
        self._kept = kept
        self._shared = [variable for variable in model.weights if id(variable) not in ids]
        seeds = [variable for variable in model.variables if variable.name == "seed_generator_state"]
        self._seeds = list({id(variable): variable for variable in seeds}.values())
        model.optimizer.build(model.trainable_variables)
        self._fresh = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
        self._start = values_of(kept)
        self._proximal = ProximalTerm(model)

    @property
    def trained(self) -> list[bool]:
        """Which of the shared weights are trained, and no statistics or ranges."""
        ids = {id(variable) for variable in self.model.trainable_variables}
        return [id(variable) in ids for variable in self._shared]

    @property
    def keeps_statistics(self) -> bool:
        """Whether each client has weights of its own."""
        return bool(self._kept)

    @property
    def names(self) -> list[str]:
        """The paths of the shared weights and their places in the model.

        Without the counters of Keras, which go on from model to model, they are the same in every process.
        """
        paths = (_COUNTER.sub("", variable.path) for variable in self._shared)
        return [f"{path} ({number})" for number, path in enumerate(paths)]

    def shared(self) -> list[np.ndarray]:
        """The values of the shared weights."""
        return values_of(self._shared)

    def state_like(self) -> dict[str, list[np.ndarray]]:
        """Arrays of the shapes and dtypes of what a :class:`ClientState` holds."""
        rest = [np.zeros(w.shape, np.float64 if w.dtype == np.float64 else np.float32) for w in self.shared()]
        return {"optimizer": self._fresh, "statistics": self._start, "rest": rest}

    def load(self, weights: Sequence[np.ndarray], state: ClientState | None = None) -> None:
        """Put in shared weights, and the statistics of a client, or those of the start."""
        assign(self._shared, weights)
        own = None if state is None else state.statistics
        assign(self._kept, self._start if own is None else own)
        self._clusters.assign()

    def publish(self, weights: Sequence[np.ndarray]) -> None:
        """Learn of the server's new weights; those of a model are put in when they are needed."""

    def reset(self, weights: Sequence[np.ndarray]) -> None:
        """Put in shared weights, and all else as it was at the start."""
        self.load(weights)
        self._proximal.remove()
        assign(self.model.optimizer.variables, self._fresh)

    def result(
        self, weights: Mapping[str, np.ndarray], rounds: tuple[Round, ...], source: str,
        client_model: Callable[[int], keras.Model],
    ) -> FederatedRun:
        """What a training came to, with the model of the shared weights."""
        self.reset(list(weights.values()))
        notes = [_STATISTICS_NOTE] if self.keeps_statistics else []
        if all(client.refused for each in rounds for client in each.clients):
            notes.append("No update was used in any round: the model is that of the start.")
        return FederatedRun(self.model, rounds, source, tuple(notes), client_model)

    def evaluate(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """The metrics of the compiled model, as ``keras.Model.evaluate`` gives them."""
        options = {"batch_size": _EVALUATION_BATCH, "verbose": 0, "return_dict": True}
        found = self.model.evaluate(x, y, sample_weight=sample_weight, **options)
        return {name: float(value) for name, value in found.items()}

    def train(
        self, weights: Sequence[np.ndarray], state: ClientState, data: tuple[Any, ...], seed: Sequence[int],
        callbacks: Sequence[keras.callbacks.Callback], proximal: float = 0.0,
    ) -> tuple[list[np.ndarray], float]:
        """Train from shared weights on a client's data; return them and the loss of the last epoch.

        The state is brought up to date. ``proximal`` is the weight of the term of FedProx that holds weights to those
        at the start.

        This is ``fit`` without its dataset, of which making one takes longer than most clients' rounds.
        """
        optimizer = self.model.optimizer
        self.load(weights, state)
        assign(optimizer.variables, self._fresh if state.optimizer is None else state.optimizer)
        rng = np.random.default_rng(seed)
        for variable in self._seeds:
            variable.assign(rng.integers(0, 2**32, variable.shape, np.uint32))
        rows, batch = sample_count(data), self._config.batch_size
        params = {"epochs": self._config.epochs, "steps": -(-rows // batch), "verbose": 0}
        told = keras.callbacks.CallbackList(list(callbacks), model=self.model, **params)
        logs: dict[str, Any] = {}
        self._proximal.start(proximal)
        try:
            self.model.stop_training = False  # a callback sets it
            told.on_train_begin()
            for epoch in range(self._config.epochs):
                told.on_epoch_begin(epoch)
                self.model.reset_metrics()
                order = rng.permutation(rows)
                for step, start in enumerate(range(0, rows, batch)):
                    told.on_train_batch_begin(step)
                    logs = self.model.train_on_batch(*rows_of(data, order[start : start + batch]), return_dict=True)
                    told.on_train_batch_end(step, logs)
                    if self.model.stop_training:
                        break
                told.on_epoch_end(epoch, logs)
                if self.model.stop_training:
                    break
            told.on_train_end(logs)
        finally:
            self._proximal.end()
        state.optimizer, state.statistics = values_of(optimizer.variables), values_of(self._kept)
        return self.shared(), float(logs["loss"])

    def update(
        self, before: Mapping[str, np.ndarray], after: Sequence[np.ndarray], state: ClientState
    ) -> tuple[bytes | None, str]:
        """The coded change, or why there is none; what it leaves out goes into the state."""
        codec, known = self._config.codec or PLAIN, None if self._config.codec is None else before
        try:
            update, state.rest = codec.encode(known, dict(zip(before, after)), state.rest)
        except InvalidValueError as error:
            state.optimizer = state.statistics = None  # they have diverged with it
            return None, str(error)
        return update, ""


def statistics_of(model: keras.Model) -> list[keras.Variable]:
    """The moving means and variances of the model's BatchNormalization layers."""
    found = []
    for _, layer in walk(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            found += [variable for name, variable in own_weights(layer).items() if name in _STATISTICS]
    return list({id(variable): variable for variable in found}.values())


def rows_of(data: tuple[Any, ...], rows: np.ndarray | slice) -> tuple[Any, ...]:
    """Some of the samples, in the structure of all."""
    return keras.tree.map_structure(lambda array: array[rows], data)


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Copies of what variables hold."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    """Give variables values, in their order."""
    for variable, value in zip(variables, values):
        variable.assign(value)
