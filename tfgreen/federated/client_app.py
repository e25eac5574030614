"""client: a Keras model and a client's data as a ClientApp of Flower's.

Flower may start a process for each message, so that all a client keeps stands in the context that Flower hands it: the
shared weights and their version, its optimizer's state, its statistics, and what its updates left out. It stays there.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from typing_extensions import Unpack

from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import InvalidValueError, TfgreenError, invalid_state, invalid_type, invalid_value
from tfgreen.federated.aggregation import PLAIN
from tfgreen.federated.arguments import (
    CallbacksFunction,
    DataFunction,
    check_function,
    check_public,
    checked_pair,
    made_callbacks,
    resolve_settings,
    sample_count,
)
from tfgreen.federated.coding.weight_coding import is_float
from tfgreen.federated.config import FederatedConfig, FederatedOptions, settings_of_clients
from tfgreen.federated.distilled_model import local_model
from tfgreen.federated.flower import PROXIMAL, TRAIN_LOSS, float_arrays, flower_app, with_floats
from tfgreen.federated.link import ARRAYS, CONFIG, EXAMPLES, LINK, METRICS, Answer, coded_arrays, coded_bytes
from tfgreen.federated.local_model import ClientState, LocalModel
from tfgreen.federated.rounds import raised_reason
from tfgreen.typing import Samples

NamedWeights = Mapping[str, np.ndarray]


def client(
    model_fn: Callable[[], keras.Model],
    data_fn: DataFunction,
    config: FederatedConfig | None = None,
    *,
    callbacks_fn: CallbacksFunction | None = None,
    mods: Sequence[Callable[..., Any]] = (),
    public_data: Samples | None = None,
    **options: Unpack[FederatedOptions],
) -> Any:
    """Make the ClientApp of a federated training, for SuperNodes of Flower's.

    It does in each round what a client of :func:`tg.federated.simulate` does, with the same weights for the same seed:
    it takes in what the server sends, trains, and sends the coded change. Its number is the ``partition-id`` of the
    SuperNode (``flower-supernode --node-config "partition-id=0"``), or 0. The samples, the optimizer's state, the
    statistics of BatchNormalization (unless shared) and what updates left out never leave it.

    Args:
        model_fn: Makes, compiles and returns the model.
        data_fn: From the number of the client to its samples ``(x, y)`` or ``(x, y, sample_weight)``.
        config: The settings that the server has, too; their fields may be given as keyword arguments.
        callbacks_fn: Makes the Keras callbacks of a training, ``[tg.UpdateCompression()]`` for a compressed model.
        mods: Of Flower's, the outermost first, such as ``fixedclipping_mod``; they see the weights as they are.
        public_data: As for :func:`tg.federated.simulate`: share predictions on these instead of weights.

    Returns:
        A ``flwr.clientapp.ClientApp``.

    Raises:
        ValueError: A setting does not fit, or Flower is not installed.
        TypeError: An argument is of another type.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.federated.FederatedConfig(clients=2, rounds=3)
        >>> client_app = tg.federated.client(model_fn, data_fn, config)  # doctest: +SKIP
    """
    settings = resolve_settings(config, options, model_fn=model_fn, data_fn=data_fn)
    check_function("callbacks_fn", callbacks_fn)
    if not isinstance(mods, (list, tuple)) or not all(map(callable, mods)):
        raise invalid_type("mods", expected="a list of mods of Flower's, which are functions", received=mods)
    check_public(public_data)
    app = flower_app("clientapp").ClientApp()
    app.train()(_Client(model_fn, data_fn, settings, callbacks_fn, mods, public_data).train)
    return app


class _Client:
    """Answers the messages of a server. The model is made with the first one, and serves one at a time."""

    def __init__(
        self, model_fn: Callable[[], keras.Model], data_fn: DataFunction, config: FederatedConfig,
        callbacks_fn: CallbacksFunction | None, mods: Sequence[Callable[..., Any]],
        public_data: Samples | None,
    ) -> None:
        self._model_fn, self._data_fn, self._config = model_fn, data_fn, config
        self._callbacks_fn, self._mods, self._public_data = callbacks_fn, mods, public_data
        self._lock = threading.Lock()
        self._made: LocalModel | None = None

    def train(self, message: Any, context: Any) -> Any:
        """The reply to a message that asks for a training; what the user got wrong is said in it."""
        app = flower_app()
        number = context.node_config.get("partition-id", 0)
        records, answer = {}, Answer(number, 0, None)
        with self._lock, EnergyMeter(region=self._config.region) as meter:
            try:
                self._made = local = self._made or local_model(self._model_fn, self._config, self._public_data)
                state, weights = _restored(context.state, local)
            except Exception as error:
                answer = Answer(number, 0, None, refused=_reason(error))
            else:
                try:
                    self._check_settings(message.content.config_records.get(LINK, {}))
                    weights = _received(message.content, state, weights)
                    update, samples, metrics = self._trained(local, message, context, number, state, weights)
                    records = {ARRAYS: coded_arrays([update]), METRICS: metrics}
                    answer = Answer(number, samples, state.version)
                except Exception as error:
                    answer = Answer(number, 0, state.version, refused=_reason(error))
                _keep(context.state, local, state, weights)
        answer = dataclasses.replace(answer, joules=meter.reading.joules, co2e_kg=meter.reading.co2e_kg)
        return app.Message(app.RecordDict({**records, LINK: answer.record()}), reply_to=message)

    def _check_settings(self, link: Mapping[str, Any]) -> None:
        own = settings_of_clients(self._config, predictions=self._public_data is not None)
        if link.get("settings", own) != own:
            fix = "Give tg.federated.client and tg.federated.server the same config, and public_data to both or none."
            raise invalid_value("settings", expected=f"those of the server ({link['settings']})", received=own, fix=fix)

    def _trained(
        self, local: LocalModel, message: Any, context: Any, number: int, state: ClientState,
        weights: NamedWeights,
    ) -> tuple[bytes, int, Any]:
        """The update, the samples, and the metrics that the mods leave in the reply."""
        app = flower_app()
        data = checked_pair(f"data of client {number}", self._data_fn(number))
        config = message.content.config_records.get(CONFIG, {})
        seed = (self._config.seed, config.get("server-round", 0), number)
        callbacks = made_callbacks(self._callbacks_fn)
        trained: list[np.ndarray] = []

        def innermost(asked: Any, _: Any) -> Any:
            start = with_floats(list(weights.values()), asked.content[ARRAYS].to_numpy_ndarrays())
            proximal = asked.content.config_records.get(CONFIG, {}).get(PROXIMAL, 0.0)
            trained[:], loss = local.train(start, state, data, seed, callbacks, proximal)
            metrics = app.MetricRecord({EXAMPLES: sample_count(data), TRAIN_LOSS: loss})
            return app.Message(app.RecordDict({ARRAYS: _named(trained, local), METRICS: metrics}), reply_to=asked)

        call = innermost
        for mod in reversed(self._mods):
            call = functools.partial(_modified, mod, call)
        message.content = app.RecordDict({ARRAYS: _named(list(weights.values()), local), CONFIG: config})
        reply = call(message, context)
        if reply.has_error():
            raise invalid_state(f"A mod of client {number} failed: {reply.error.reason}")
        after = with_floats(trained, reply.content[ARRAYS].to_numpy_ndarrays())
        update, refused = local.update(weights, after, state)
        if update is None:
            raise InvalidValueError(refused)
        return update, sample_count(data), reply.content[METRICS]


def _reason(error: Exception) -> str:
    """Why there is no update, for the server: what the user got wrong, or whatever a function of the user's raised."""
    return str(error) if isinstance(error, TfgreenError) else raised_reason(error)


def _modified(mod: Callable[..., Any], call: Callable[..., Any], message: Any, context: Any) -> Any:
    return mod(message, context, call)


def _named(weights: Sequence[np.ndarray], local: LocalModel) -> Any:
    """The floats as a record by name."""
    app = flower_app()
    names = [name for name, weight in zip(local.names, weights) if is_float(weight)]
    return app.ArrayRecord({name: app.Array(array) for name, array in zip(names, float_arrays(weights))})


def _received(content: Any, state: ClientState, weights: NamedWeights) -> NamedWeights:
    """The weights of the server, from those of the state's version and what the message brings."""
    link, updates = content.config_records.get(LINK, {}), coded_bytes(content)
    base, version = link.get("base", -1), link.get("version", 0)
    if base >= 0:
        if state.version is None or not base <= state.version <= version:
            known = "nothing" if state.version is None else f"version {state.version}"
            state.version = None  # so that the server sends all next time
            raise invalid_state(f"The server sent what changed since version {base}, but the client has {known}.")
        updates = updates[state.version - base :]
    for update in updates:
        weights = PLAIN.decode(update, weights)
    state.version = version
    return weights


def _restored(kept: Any, local: LocalModel) -> tuple[ClientState, NamedWeights]:
    """What a client kept, and the shared weights that it knows."""
    weights: NamedWeights = dict(zip(local.names, local.shared()))
    state = ClientState()
    if LINK not in kept:
        return state, weights
    version = kept[LINK]["version"]
    state.version = None if version < 0 else version
    likes = {"weights": list(weights.values()), **local.state_like()}
    found: dict[str, Any] = {}
    for name, like in likes.items():
        data = coded_bytes(kept, f"{LINK}.{name}")
        found[name] = PLAIN.decode(data[0], like) if data else None
    state.optimizer, state.statistics = found["optimizer"], found["statistics"]
    if found["rest"] is not None:
        state.rest = tuple(r if is_float(w) else None for r, w in zip(found["rest"], likes["weights"]))
    return state, dict(zip(weights, found["weights"] or likes["weights"]))


def _keep(kept: Any, local: LocalModel, state: ClientState, weights: NamedWeights) -> None:
    """Put it all where :func:`_restored` finds it."""
    rest = None
    if state.rest is not None:
        zeros = local.state_like()["rest"]
        rest = [zero if array is None else array for array, zero in zip(state.rest, zeros)]
    values = {"weights": list(weights.values()), "rest": rest}
    values |= {"optimizer": state.optimizer, "statistics": state.statistics}
    for name, arrays in values.items():
        coded = [] if arrays is None else [PLAIN.encode(None, arrays)[0]]
        kept[f"{LINK}.{name}"] = coded_arrays(coded)
    kept[LINK] = flower_app().ConfigRecord({"version": -1 if state.version is None else state.version})
