"""simulate: a federated training in one process, with the bytes and joules that it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from typing_extensions import Unpack

from tfgreen.config import resolve_config
from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import InvalidValueError, invalid_type, invalid_value
from tfgreen.federated.account import ClientRound, FederatedRun, Round, total
from tfgreen.federated.client import ClientState, DataFunction, LocalModel, check_model, checked_pair, sample_count
from tfgreen.federated.codec import UpdateCodec
from tfgreen.federated.config import FederatedConfig, FederatedOptions
from tfgreen.federated.flower import FlowerStrategy
from tfgreen.federated.server import Broadcast, Reply, average, outliers
from tfgreen.model.rebuild import compiled_copy

# (round, client, update) -> what arrives at the server, or None for nothing.
Transmit = Callable[[int, int, bytes], "bytes | None"]


def simulate(
    model_fn: Callable[[], keras.Model],
    data_fn: DataFunction,
    config: FederatedConfig | None = None,
    *,
    evaluation_data: tuple[Any, Any] | Callable[[keras.Model], Mapping[str, float]] | None = None,
    strategy: Any = None,
    callbacks_fn: Callable[[], Sequence[keras.callbacks.Callback]] | None = None,
    transmit: Transmit | None = None,
    **options: Unpack[FederatedOptions],
) -> FederatedRun:
    """Train a model by clients that share compressed updates, all of them in this process and one after the other.

    In each round some clients are drawn, get the shared weights, train them on their own data, and send the coded
    change; the server decodes, averages by samples, and codes its own change for the next ones. One model serves all,
    so that memory does not grow with clients or rounds; equal seeds give equal weights on one machine. What stays at a
    client: its samples, its optimizer's state, what its updates left out, and its statistics of BatchNormalization (see
    ``statistics``). The updates are no secret: compression protects nothing.

    An update that is damaged, of another version or model, not finite, or far larger than the others is refused, named
    in the result, and the round goes on. A round without any update leaves the weights as they are.

    Args:
        model_fn: Makes, compiles and returns the model; called once, with Keras's seed set. A compressed one
            (``tg.prune``, ``tg.quantize``) keeps its masks.
        data_fn: From the number of a client to its samples ``(x, y)`` or ``(x, y, sample_weight)``. It is called in
            each round in which the client trains.
        config: Settings; their fields may be given as keyword arguments. ``clients`` and ``rounds`` must be.
        evaluation_data: ``(x, y)`` for the metrics of the compiled model after each round, or a function from the model
            to metrics by name. Where clients keep statistics it is the mean over those that have trained.
        strategy: A strategy of Flower's (``flwr.serverapp.strategy``; ``pip install tfgreen[federated]``), which then
            draws the clients and aggregates; None averages by samples. It is handed decoded weights.
        callbacks_fn: Makes the Keras callbacks of one client's training, ``[tg.UpdateCompression()]`` for a compressed
            model.
        transmit: From the round, the client and its update to what arrives, to try what a lossy network does.

    Returns:
        The model, and bytes, joules and metrics by round and by client.

    Raises:
        ValueError: A setting does not fit, the model is not built and compiled, or a client has no samples.
        TypeError: An argument is of another type.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> def model_fn():
        ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        ...     model.compile("sgd", "mse")
        ...     return model
        >>> def data_fn(client):
        ...     x = np.random.default_rng(client).normal(size=(32, 4)).astype("float32")
        ...     return x, x[:, :3]
        >>> run = simulate(model_fn, data_fn, clients=4, rounds=3, evaluation_data=data_fn(99))
        >>> len(run.history["loss"]), run.history["updates"]
        (3, [4, 4, 4])
    """
    for name, function in (("model_fn", model_fn), ("data_fn", data_fn)):
        if not callable(function):
            raise invalid_type(name, expected="a function", received=function)
    if config is None and not {"clients", "rounds"} <= set(options):
        missing = sorted({"clients", "rounds"} - set(options))
        raise invalid_value("config", expected="clients and rounds", received=f"no {' and no '.join(missing)}")
    settings = resolve_config(FederatedConfig, config, options)
    if evaluation_data is not None and not callable(evaluation_data):
        evaluation_data = checked_pair("evaluation_data", evaluation_data)
    keras.utils.set_random_seed(settings.seed)
    local = LocalModel(check_model(model_fn()), settings)
    flower = None if strategy is None else FlowerStrategy(strategy, settings.clients, settings.seed)
    return _Simulation(local, data_fn, settings, evaluation_data, flower, callbacks_fn, transmit).run()


class _Simulation:
    """The state of a run: what the server has, and what each client keeps."""

    def __init__(
        self, local: LocalModel, data_fn: DataFunction, config: FederatedConfig, evaluation: Any,
        flower: FlowerStrategy | None, callbacks_fn: Callable[[], Sequence[keras.callbacks.Callback]] | None,
        transmit: Transmit | None,
    ) -> None:
        self._local, self._data_fn, self._config = local, data_fn, config
        self._evaluation, self._flower, self._callbacks_fn, self._transmit = evaluation, flower, callbacks_fn, transmit
        self._names = local.names
        self._broadcast = Broadcast(dict(zip(self._names, local.shared())), config.downlink)
        self._clients: dict[int, ClientState] = {}
        self._codec = config.codec or UpdateCodec(entropy=None)
        self._meter = EnergyMeter(region=config.region)
        self._source = "unavailable"

    def run(self) -> FederatedRun:
        rounds = tuple(self._round(number) for number in range(1, self._config.rounds + 1))
        self._local.reset(list(self._broadcast.weights.values()))
        notes = []
        if self._local.keeps_statistics:
            notes.append(
                "The statistics of BatchNormalization stayed at the clients: those of .model are of its start. Take "
                ".client_model(client), or tg.recalibrate_batch_norm(run.model, x)."
            )
        return FederatedRun(self._local.model, rounds, self._source, tuple(notes), self._client_model)

    def _round(self, number: int) -> Round:
        chosen = self._drawn(number)
        replies, parts, co2e = [], {}, []
        for client in chosen:
            state = self._clients.setdefault(client, ClientState())
            down = self._broadcast.bytes_to(state.version)
            with self._meter:
                samples, update, refused = self._trained(number, client, state)
            state.version = self._broadcast.version
            reading, self._source = self._meter.reading, self._meter.reading.source
            co2e.append(reading.co2e_kg)
            if update is not None and self._transmit is not None:
                update = self._transmit(number, client, update)
            sent = 0 if update is None else len(update)
            if not refused and update is None:
                refused = "nothing arrived"
            if not refused and update is not None:
                try:
                    weights = self._codec.decode(update, self._broadcast.weights)
                    replies.append(Reply(client, samples, self._broadcast.moved(list(weights.values()))))
                except (InvalidValueError, TypeError) as error:
                    refused = str(error)
            parts[client] = ClientRound(client, samples, down, sent, reading.joules, refused)
        with self._meter:
            why = self._aggregated(number, replies)
            metrics = self._metrics()
        reading = self._meter.reading
        for client, reason in why.items():
            parts[client] = dataclasses.replace(parts[client], refused=reason)
        co2e.append(reading.co2e_kg)
        return Round(number, tuple(parts.values()), reading.joules, total(co2e), metrics)

    def _drawn(self, number: int) -> list[int]:
        if self._flower is not None:
            return self._flower.drawn(number, self._broadcast.own)
        count = self._config.clients_per_round or self._config.clients
        rng = np.random.default_rng((self._config.seed, number))
        return sorted(rng.choice(self._config.clients, count, replace=False).tolist())

    def _trained(self, number: int, client: int, state: ClientState) -> tuple[int, bytes | None, str]:
        """A client's samples, its update, and why there is none."""
        data = checked_pair(f"data of client {client}", self._data_fn(client))
        before = self._broadcast.weights
        callbacks = self._callbacks_fn() if self._callbacks_fn is not None else []
        seed = (self._config.seed, number, client)
        after = self._local.train(list(before.values()), state, data, seed, callbacks)
        known = None if self._config.codec is None else before
        try:
            update, state.rest = self._codec.encode(known, dict(zip(self._names, after)), state.rest)
        except InvalidValueError as error:
            state.optimizer = state.statistics = None  # they have diverged with it
            return sample_count(data), None, str(error)
        return sample_count(data), update, ""

    def _aggregated(self, number: int, replies: list[Reply]) -> dict[int, str]:
        """Take the replies into the server's weights; client -> why its one was refused."""
        most = self._config.max_update_ratio
        why = {} if most is None else outliers(self._broadcast.own, replies, self._names, most)
        used = [reply for reply in replies if reply.client not in why]
        if used:
            new = average(used) if self._flower is None else self._flower.aggregated(number, used)
            self._broadcast.publish(new)
        return why

    def _metrics(self) -> dict[str, float]:
        if self._evaluation is None:
            return {}
        states: list[ClientState | None] = [None]
        if self._local.keeps_statistics:
            states = [state for state in self._clients.values() if state.statistics is not None] or [None]
        found = []
        for state in states:
            self._local.load(list(self._broadcast.weights.values()), state)
            if callable(self._evaluation):
                found.append(self._evaluation(self._local.model))
            else:
                found.append(self._local.evaluate(*self._evaluation))
        return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}

    def _client_model(self, client: int) -> keras.Model:
        state = self._clients.get(client)
        if state is None or state.statistics is None:
            expected = f"a client that has trained, of {sorted(self._clients)}"
            raise invalid_value("client", expected=expected, received=client)
        weights = list(self._broadcast.weights.values())
        self._local.load(weights, state)
        model = compiled_copy(self._local.model)
        self._local.load(weights)
        return model
