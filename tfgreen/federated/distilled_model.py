"""DistilledModel: what a client shares are its predictions on public samples, and its weights stay its own.

Each client learns from the predictions that the server averaged, then from its own samples; the server's model learns
from the averages only. Clients need not have the same model.

References: D. Li and J. Wang, "FedMD", 2019, arXiv:1910.03581; T. Lin et al., "Ensemble Distillation for Robust Model
Fusion in Federated Learning", NeurIPS 2020, arXiv:2006.07242.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.federated.arguments import check_model
from tfgreen.federated.config import FederatedConfig
from tfgreen.federated.local_model import ClientState, LocalModel, assign, rows_of, values_of
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.samples import sample_arrays
from tfgreen.structure import pack
from tfgreen.typing import Samples, Tensors

_BATCH = 256


def local_model(
    model_fn: Callable[[], keras.Model], config: FederatedConfig, public_data: Samples | None = None
) -> LocalModel:
    """The model of ``model_fn``, of which the seed is set; with public data one that shares predictions."""
    keras.utils.set_random_seed(config.seed)
    model = check_model(model_fn())
    return LocalModel(model, config) if public_data is None else DistilledModel(model, config, public_data)


class DistilledModel(LocalModel):
    """A :class:`LocalModel` of which no weight is shared.

    Args:
        model: Built and compiled; it is trained in place.
        config: How clients train.
        public: Samples that all have, without targets.

    Raises:
        ValueError, TypeError: They are not what the model takes.
    """

    def __init__(self, model: keras.Model, config: FederatedConfig, public: Samples) -> None:
        super().__init__(model, config)
        spec = read_call_spec(model)
        self._public = pack(spec.structure, sample_arrays(public, spec, "public_data"))
        self._kept = list({id(variable): variable for variable in model.weights}.values())
        self._shared = []
        self._start = self._server = values_of(self._kept)
        found = self._predictions()
        self._nothing = [np.zeros_like(array) for array in found]
        likely = all(array.shape[-1] > 1 and (array >= 0).all() and np.allclose(array.sum(-1), 1) for array in found)
        loss = keras.losses.KLDivergence() if likely else "mse"
        self._student = _Student(model)
        optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        self._student.compile(optimizer, loss=[loss] * len(found))
        optimizer.build(model.trainable_variables)
        self._new_optimizer = values_of(optimizer.variables)

    keeps_statistics = False  # the server's model is evaluated, not those of the clients

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        return [f"predictions ({number})" for number in range(len(self._nothing))]

    @property
    def trained(self) -> list[bool]:
        """All are as if they were: none is a range that a strategy must not leave."""
        return [True] * len(self._nothing)

    def shared(self) -> list[np.ndarray]:
        """Predictions that say nothing yet."""
        return self._nothing

    def load(self, weights: Sequence[np.ndarray], state: ClientState | None = None) -> None:
        """Put in the weights of a client, or those of the server's model."""
        own = self._server if state is None else state.statistics
        assign(self._kept, self._start if own is None else own)

    def publish(self, weights: Sequence[np.ndarray]) -> None:
        """Teach the server's model what the clients predict."""
        self.load(weights)
        self._learn(weights, (self._config.seed,))
        self._server = values_of(self._kept)

    def train(
        self, weights: Sequence[np.ndarray], state: ClientState, data: tuple[Any, ...], seed: Sequence[int],
        callbacks: Sequence[keras.callbacks.Callback], proximal: float = 0.0,
    ) -> tuple[list[np.ndarray], float]:
        """Learn from what all predict, then from a client's own data; return what it predicts now, and its loss."""
        self.load(weights, state)
        if any(array.any() for array in weights):
            self._learn(weights, seed)
        state.statistics = values_of(self._kept)
        _, loss = super().train(weights, state, data, seed, callbacks, proximal)
        return self._predictions(), loss

    def update(
        self, before: Mapping[str, np.ndarray], after: Sequence[np.ndarray], state: ClientState
    ) -> tuple[bytes | None, str]:
        """The coded predictions, or why there are none."""
        found = super().update(before, after, state)
        state.rest = None  # the next predictions hold what this update left out
        return found

    def _learn(self, targets: Sequence[np.ndarray], seed: Sequence[int]) -> None:
        """Train on the public samples, with an optimizer of the kind that the model has, as it is at its start."""
        assign(self._student.optimizer.variables, self._new_optimizer)
        rng, batch = np.random.default_rng(seed), self._config.batch_size
        wanted = targets[0] if len(targets) == 1 else list(targets)
        for _ in range(self._config.epochs):
            order = rng.permutation(len(targets[0]))
            for start in range(0, len(order), batch):
                self._student.train_on_batch(*rows_of((self._public, wanted), order[start : start + batch]))

    def _predictions(self) -> list[np.ndarray]:
        count, parts = len(keras.tree.flatten(self._public)[0]), []
        for start in range(0, count, _BATCH):
            (batch,) = rows_of((self._public,), slice(start, start + _BATCH))
            found = self.model.predict_on_batch(batch)
            parts.append([np.asarray(array, "float32") for array in keras.tree.flatten(found)])
        return [np.concatenate(arrays) for arrays in zip(*parts)]


class _Student(keras.Model):
    """The same layers, compiled for another loss."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="student")
        self.inner = model

    def call(self, inputs: Tensors, training: bool | None = None) -> Tensors:
        found = keras.tree.flatten(self.inner(inputs, training=training))
        return found[0] if len(found) == 1 else found
