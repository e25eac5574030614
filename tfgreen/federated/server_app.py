"""server: a Keras model, a strategy and codecs as a ServerApp of Flower's."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from typing_extensions import Unpack

from tfgreen.checks import check_number
from tfgreen.errors import InvalidValueError, invalid_state, invalid_type, invalid_value
from tfgreen.federated.account import FederatedRun, Round
from tfgreen.federated.aggregation import drawn
from tfgreen.federated.arguments import check_public, check_strategy, checked_evaluation, resolve_settings
from tfgreen.federated.config import FederatedConfig, FederatedOptions, settings_of_clients
from tfgreen.federated.distilled_model import local_model
from tfgreen.federated.flower import FlowerStrategy, flower_app
from tfgreen.federated.link import ARRAYS, CONFIG, EXAMPLES, LINK, METRICS, Answer, coded_arrays, coded_bytes
from tfgreen.federated.local_model import LocalModel
from tfgreen.federated.rounds import Arrival, Rounds
from tfgreen.typing import Samples


def server(
    model_fn: Callable[[], keras.Model],
    config: FederatedConfig | None = None,
    *,
    strategy: Any = None,
    evaluation_data: tuple[Any, Any] | Callable[[keras.Model], Mapping[str, float]] | None = None,
    finished: Callable[[FederatedRun], object] | None = None,
    timeout: float = 600.0,
    public_data: Samples | None = None,
    **options: Unpack[FederatedOptions],
) -> Any:
    """Make the ServerApp of a federated training, for a SuperLink of Flower's.

    It waits for ``clients`` SuperNodes that run :func:`tg.federated.client`, and trains ``rounds`` rounds with them:
    the weights, the account and what is refused are those of :func:`tg.federated.simulate`. A client that dies, is late
    or answers with anything but an update of this model is named in the result, and the round goes on; the next time it
    gets all weights. Only the bytes of :class:`tg.UpdateCodec` are read, and nothing is unpickled.

    Args:
        model_fn: Makes, compiles and returns the model that is trained.
        config: The settings that the clients have, too; their fields may be given as keyword arguments.
        strategy: A strategy of ``flwr.serverapp.strategy``; None averages by samples. Its ``fraction_evaluate`` is not
            used: evaluate here.
        evaluation_data: ``(x, y)`` for the metrics after each round, or a function from the model to metrics by name.
        finished: Called with the :class:`tg.federated.FederatedRun` at the end, to save and print what is wanted.
        timeout: Seconds to wait for the clients to connect, and for the updates of a round.
        public_data: The same as the clients have, where they share predictions instead of weights.

    Returns:
        A ``flwr.serverapp.ServerApp``.

    Raises:
        ValueError: A setting does not fit, or Flower is not installed.
        TypeError: An argument is of another type.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.federated.FederatedConfig(clients=2, rounds=3)
        >>> server_app = tg.federated.server(model_fn, config, finished=print)  # doctest: +SKIP
    """
    settings = resolve_settings(config, options, model_fn=model_fn)
    check_strategy(strategy)
    check_public(public_data)
    evaluation_data = checked_evaluation(evaluation_data)
    check_number("timeout", timeout, above=0)
    if finished is not None and not callable(finished):
        raise invalid_type("finished", expected="a function of the result", received=finished)
    app = flower_app("serverapp").ServerApp()

    @app.main()
    def main(grid: Any, context: Any) -> None:
        local = local_model(model_fn, settings, public_data)
        agreed = settings_of_clients(settings, predictions=public_data is not None)
        run = _Federation(grid, local, settings, agreed, strategy, evaluation_data, timeout).run()
        if finished is not None:
            finished(run)

    return app


class _Federation:
    """A training over Flower's grid: which nodes there are, and what each of them knows."""

    def __init__(
        self, grid: Any, local: LocalModel, config: FederatedConfig, agreed: str, strategy: Any, evaluation: Any,
        timeout: float,
    ) -> None:
        self._grid, self._local, self._config, self._timeout = grid, local, config, timeout
        self._agreed = agreed
        self._flower = None
        if strategy is not None:
            asks = max(2, int(timeout))
            self._flower = FlowerStrategy(strategy, grid.get_node_ids, config.seed, asks, runs=True)
        self._rounds = Rounds(local, config, evaluation, self._flower)
        self._broadcast = self._rounds.broadcast
        self._versions: dict[int, int | None] = {}
        self._numbers: dict[int, int] = {}

    def run(self) -> FederatedRun:
        self._wait()
        rounds = tuple(self._round(number) for number in range(1, self._config.rounds + 1))
        return self._local.result(self._broadcast.weights, rounds, self._rounds.energy_source, _client_model)

    def _wait(self) -> None:
        end = time.monotonic() + self._timeout
        while len(found := list(self._grid.get_node_ids())) < self._config.clients:
            if time.monotonic() > end:
                sentence = f"{len(found)} of {self._config.clients} clients connected within {self._timeout:g} seconds."
                raise invalid_state(sentence, "Start more SuperNodes, or set clients to how many there are.")
            time.sleep(0.5)

    def _round(self, number: int) -> Round:
        app = flower_app()
        if self._flower is not None:
            asked = self._flower.drawn(number, self._broadcast.own)
        else:
            asked = drawn(self._config, number, sorted(self._grid.get_node_ids()))
        messages, sent = [], {}
        for node, config in asked.items():
            base, updates = self._broadcast.updates_for(self._versions.get(node))
            sent[node] = sum(map(len, updates))
            link = {"base": -1 if base is None else base, "version": self._broadcast.version, "settings": self._agreed}
            content = {ARRAYS: coded_arrays(updates), CONFIG: app.ConfigRecord({**config, "server-round": number})}
            content[LINK] = app.ConfigRecord(link)
            messages.append(app.Message(app.RecordDict(content), dst_node_id=node, message_type="train"))
        replies: dict[int, Any] = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._timeout):
            replies.setdefault(reply.metadata.src_node_id, reply)
        arrivals = [self._arrival(node, replies.get(node), down) for node, down in sent.items()]
        return self._rounds.finish(number, sorted(_alike(arrivals), key=lambda each: each.client), [])

    def _arrival(self, node: int, reply: Any, down: int) -> Arrival:
        """What a node answered; for what is wrong with it the reason."""
        client = self._numbers.get(node, node)
        if reply is None or reply.has_error():
            reason = f"nothing arrived within {self._timeout:g} seconds" if reply is None else reply.error.reason
            return Arrival(client, 0, down, None, refused=reason, node=node, answered=False)
        update = None
        try:
            answer = Answer.read(reply.content)
            client = self._number(node, answer.client)
            known = answer.version
            self._versions[node] = known if known is not None and known <= self._broadcast.version else None
            account = (answer.joules, answer.co2e_kg, answer.refused)
            if not answer.refused:
                update = b"".join(coded_bytes(reply.content))
            metrics = dict(reply.content.metric_records.get(METRICS, {}))
        except InvalidValueError as error:
            self._versions[node] = None
            return Arrival(client, 0, down, update, refused=str(error), node=node, answered=False)
        metrics.pop(EXAMPLES, None)
        return Arrival(client, answer.samples, down, update, *account, metrics, node)

    def _number(self, node: int, said: int) -> int:
        """The number that a node said first.

        Raises:
            ValueError: Another node that is connected has it, so that both train on the same data.
        """
        others = [other for other, number in self._numbers.items() if number == said and other != node]
        connected = set(self._grid.get_node_ids()) if others else set()
        if connected & set(others):
            fix = "Start each SuperNode with one of its own: --node-config \"partition-id=1\"."
            raise invalid_value("partition-id", expected="a number that no other SuperNode has", received=said, fix=fix)
        return self._numbers.setdefault(node, said)


def _alike(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Refuse those whose metrics are others than most clients', over which a strategy would stumble."""
    used = [tuple(sorted(each.metrics)) for each in arrivals if not each.refused]
    usual = max(used, key=used.count, default=())
    found = []
    for each in arrivals:
        right = all(isinstance(value, (int, float)) and abs(value) < float("inf") for value in each.metrics.values())
        if not each.refused and (tuple(sorted(each.metrics)) != usual or not right):
            reason = f"its metrics {sorted(each.metrics)} are not those of the others, {list(usual)}, or no numbers"
            each = dataclasses.replace(each, samples=0, refused=reason, metrics={})
        found.append(each)
    return found


def _client_model(client: int) -> keras.Model:
    raise invalid_state(
        "What only a client has (statistics of BatchNormalization, or weights beside public_data) is at the clients, "
        "which run elsewhere.",
        "Take run.model. For statistics train with statistics='shared', or call tg.recalibrate_batch_norm(model, x).",
    )
