"""EnergyLaps: readings one after the other, of what may never come to its end."""

from __future__ import annotations

from tfgreen.energy.meter import EnergyMeter, EnergyReading


class EnergyLaps:
    """An energy meter for a callback, which Keras tells that a training begins, but not that it raised.

    Args:
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine, or None.

    Raises:
        ValueError: The region is unknown.

    Example:
        >>> laps = EnergyLaps()
        >>> laps.start()
        >>> laps.lap().duration_s < 60
        True
        >>> laps.stop()
    """

    def __init__(self, region: str | None = None) -> None:
        self._meter = EnergyMeter(region)
        self._running = False

    def start(self) -> None:
        """Begin; what an earlier beginning has measured since its last lap is lost."""
        self.stop()
        self._meter.__enter__()
        self._running = True

    def lap(self) -> EnergyReading:
        """The energy since the last lap, or the beginning."""
        self.stop()
        reading = self._meter.reading
        self.start()
        return reading

    def stop(self) -> None:
        """End, if it has begun."""
        if self._running:
            self._meter.__exit__(None, None, None)
        self._running = False
