"""simulate: a federated training in one process, with the bytes and joules that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from typing_extensions import Unpack

from tfgreen.checks import check_instance
from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import TfgreenError, invalid_state, invalid_value
from tfgreen.federated.account import FederatedRun, Round
from tfgreen.federated.aggregation import drawn
from tfgreen.federated.arguments import (
    CallbacksFunction,
    DataFunction,
    check_function,
    check_public,
    check_strategy,
    checked_evaluation,
    checked_pair,
    made_callbacks,
    resolve_settings,
    sample_count,
)
from tfgreen.federated.config import FederatedConfig, FederatedOptions
from tfgreen.federated.distilled_model import local_model
from tfgreen.federated.flower import PROXIMAL, TRAIN_LOSS, FlowerStrategy
from tfgreen.federated.local_model import ClientState, LocalModel
from tfgreen.federated.rounds import Arrival, Rounds, raised_reason
from tfgreen.model.rebuild import compiled_copy
from tfgreen.typing import Samples

FIRST_NODE = 1  # Flower's numbers begin there

# (round, client, update) -> what arrives at the server, or None for nothing.
Transmit = Callable[[int, int, bytes], "bytes | None"]


def simulate(
    model_fn: Callable[[], keras.Model],
    data_fn: DataFunction,
    config: FederatedConfig | None = None,
    *,
    evaluation_data: tuple[Any, Any] | Callable[[keras.Model], Mapping[str, float]] | None = None,
    strategy: Any = None,
    callbacks_fn: CallbacksFunction | None = None,
    transmit: Transmit | None = None,
    public_data: Samples | None = None,
    **options: Unpack[FederatedOptions],
) -> FederatedRun:
    """Train a model by clients that share compressed updates, all of them in this process and one after the other.

    In each round some clients are drawn, get the shared weights, train them on their own data, and send the coded
    change; the server decodes, averages by samples, and codes its own change for the next ones. One model serves all,
    so that memory does not grow with clients or rounds; equal seeds give equal weights on one machine. What stays at a
    client: its samples, its optimizer's state, what its updates left out, and its statistics of BatchNormalization (see
    ``statistics``). The updates are no secret: compression protects nothing.

    An update that is damaged, of another version or model, not finite, or far larger than the others is refused, named
    in the result, and the round goes on; so it does without a client that raises, unless all do. A round without any
    update leaves the weights as they are.

    Args:
        model_fn: Makes, compiles and returns the model; called once, with Keras's seed set. A compressed one
            (``tg.prune``, ``tg.quantize``) keeps its masks.
        data_fn: From the number of a client to its samples ``(x, y)`` or ``(x, y, sample_weight)``. It is called in
            each round in which the client trains.
        config: Settings; their fields may be given as keyword arguments. ``clients`` and ``rounds`` must be.
        evaluation_data: ``(x, y)`` for the metrics of the compiled model after each round, or a function from the model
            to metrics by name. Where clients keep statistics it is the mean over those that have trained.
        strategy: A strategy of Flower's (``flwr.serverapp.strategy``; ``pip install tfgreen[federated]``), which then
            draws the clients and aggregates; None averages by samples. It is handed decoded weights, and the loss of
            the last epoch as ``train_loss``. What it keeps, such as momenta, goes on in the next call: make one for
            each. Weights that are not trained (statistics, ranges of ``tg.quantize``) stay between the least and the
            most of the clients.
        callbacks_fn: Makes the list of Keras callbacks of one client's training, ``[tg.UpdateCompression()]`` for a
            compressed model.
        transmit: From the round, the client and its update to what arrives, to try what a lossy network does.
        public_data: Samples that all have, without targets, as the model takes them. With them clients
            share what they predict on these instead of weights, and each has a model of its own; that of the result
            has learned from the averages.

    Returns:
        The model, and bytes, joules and metrics by round and by client.

    Raises:
        ValueError: A setting does not fit, the model is not built and compiled, a client has no samples, or all clients
            of a round have raised.
        TypeError: An argument is of another type.

    The example is that of :mod:`tg.federated`.
    """
    settings = resolve_settings(config, options, model_fn=model_fn, data_fn=data_fn)
    check_function("callbacks_fn", callbacks_fn)
    check_function("transmit", transmit)
    check_public(public_data)
    check_strategy(strategy)
    evaluation_data = checked_evaluation(evaluation_data)
    local = local_model(model_fn, settings, public_data)
    flower = None
    if strategy is not None:
        flower = FlowerStrategy(strategy, lambda: range(FIRST_NODE, FIRST_NODE + settings.clients), settings.seed)
    return _Simulation(local, data_fn, settings, evaluation_data, flower, callbacks_fn, transmit).run()


class _Simulation:
    """The state of a run: what the server has, and what each client keeps."""

    def __init__(
        self, local: LocalModel, data_fn: DataFunction, config: FederatedConfig, evaluation: Any,
        flower: FlowerStrategy | None, callbacks_fn: CallbacksFunction | None, transmit: Transmit | None,
    ) -> None:
        self._local, self._data_fn, self._config, self._flower = local, data_fn, config, flower
        self._callbacks_fn, self._transmit = callbacks_fn, transmit
        self._rounds = Rounds(local, config, evaluation, flower)
        self._broadcast = self._rounds.broadcast
        self._clients: dict[int, ClientState] = {}
        self._meter = EnergyMeter(region=config.region)

    def run(self) -> FederatedRun:
        rounds = tuple(self._round(number) for number in range(1, self._config.rounds + 1))
        source = self._rounds.energy_source
        return self._local.result(self._broadcast.weights, rounds, source, self._client_model)

    def _round(self, number: int) -> Round:
        arrivals, raised = [], []
        for node, asked in self._drawn(number).items():
            client = node - FIRST_NODE
            state = self._clients.setdefault(client, ClientState())
            down = sum(map(len, self._broadcast.updates_for(state.version)[1]))
            with self._meter:
                try:
                    samples, update, refused, metrics = self._trained(number, client, state, asked)
                except TfgreenError:
                    raise
                except Exception as error:  # whatever data, a model or a callback of the user's raises
                    raised.append(error)
                    samples, update, refused, metrics = 0, None, raised_reason(error), {}
            state.version, reading = self._broadcast.version, self._meter.reading
            if update is not None and self._transmit is not None:
                update = self._transmit(number, client, update)
                check_instance("transmit, its result", update, (bytes, type(None)), "bytes, or None for a lost update")
            account = (reading.joules, reading.co2e_kg, refused, metrics)
            arrivals.append(Arrival(client, samples, down, update, *account, node=node))
        if raised and len(raised) == len(arrivals):
            sentence = f"All clients of round {number} have raised; client {arrivals[0].client}: {arrivals[0].refused}."
            raise invalid_state(sentence, "Mend data_fn, model_fn or callbacks_fn.") from raised[0]
        return self._rounds.finish(number, arrivals, list(self._clients.values()))

    def _drawn(self, number: int) -> Mapping[int, Mapping[str, Any]]:
        """The clients that train, by their numbers at Flower, and what a strategy tells them."""
        nodes = range(FIRST_NODE, FIRST_NODE + self._config.clients)
        if self._flower is None:
            return drawn(self._config, number, nodes)
        found = self._flower.drawn(number, self._broadcast.own)
        self._flower.check_asked(found)
        return found

    def _trained(
        self, number: int, client: int, state: ClientState, asked: Mapping[str, Any]
    ) -> tuple[int, bytes | None, str, dict[str, float]]:
        """A client's samples, its update, why there is none, and its metrics."""
        data = checked_pair(f"data of client {client}", self._data_fn(client))
        before = self._broadcast.weights
        callbacks = made_callbacks(self._callbacks_fn)
        seed, proximal = (self._config.seed, number, client), asked.get(PROXIMAL, 0.0)
        after, loss = self._local.train(list(before.values()), state, data, seed, callbacks, proximal)
        return sample_count(data), *self._local.update(before, after, state), {TRAIN_LOSS: loss}

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
