"""What client and server send each other in Flower's messages: coded bytes, and a record that says what they are.

Nothing in a message is an array of NumPy's, so that nothing is read but by :class:`tg.UpdateCodec`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfgreen.errors import invalid_value
from tfgreen.federated.flower import flower_app

ARRAYS, CONFIG, METRICS, LINK = "arrays", "config", "metrics", "tfgreen"
EXAMPLES = "num-examples"
_STYPE = "tfgreen.update"
_FIX = "Client and server must run the same version of tfgreen: tg.federated.client and tg.federated.server."


def coded_arrays(updates: Sequence[bytes]) -> Any:
    """A record of coded bytes."""
    app = flower_app()
    arrays = {
        str(number): app.Array(dtype="uint8", shape=(len(data),), stype=_STYPE, data=data)
        for number, data in enumerate(updates)
    }
    return app.ArrayRecord(arrays)


def coded_bytes(content: Any, key: str = ARRAYS) -> list[bytes]:
    """The bytes of such a record.

    Raises:
        ValueError: There is none, or it holds something else.
    """
    record = content.array_records.get(key)
    arrays = [] if record is None else list(record.values())
    if record is None or any(array.stype != _STYPE for array in arrays):
        received = "none" if record is None else f"arrays of type {[array.stype for array in arrays][:3]}"
        raise invalid_value("message", expected=f"coded updates in '{key}'", received=received, fix=_FIX)
    return [array.data for array in arrays]


_KINDS: dict[str, type] = {
    "client": int, "samples": int, "version": int, "joules": float, "co2e_kg": float, "refused": str,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client says of a training.

    Attributes:
        client: Its number.
        samples: That it trained on; 0 where it did not.
        version: Of the server's weights that it has now, or None.
        joules, co2e_kg: Of its training and of coding, or None.
        refused: Why it has no update, or "".
    """

    client: int
    samples: int
    version: int | None
    joules: float | None = None
    co2e_kg: float | None = None
    refused: str = ""

    def record(self) -> Any:
        """For a message; what is None is left out."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return flower_app().ConfigRecord(values)

    @classmethod
    def read(cls, content: Any) -> Answer:
        """What such a record says.

        Raises:
            ValueError: It is missing, or says what no client can.
        """
        record: Mapping[str, Any] = content.config_records.get(LINK, {})
        for name, value in record.items():
            right = type(value) is _KINDS.get(name)
            if not right or not (isinstance(value, str) or 0 <= value < math.inf):
                raise invalid_value("reply", expected=f"a right '{name}'", received=str(value)[:80], fix=_FIX)
        missing = sorted({"client", "samples", "refused"} - set(record))
        if missing or not (record["samples"] or record["refused"]):
            received = f"one without {', '.join(missing) or 'samples'}"
            raise invalid_value("reply", expected="that of tg.federated.client", received=received, fix=_FIX)
        return cls(**{"version": None, **record})
