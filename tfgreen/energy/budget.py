"""EnergyBudget: a callback that ends a training when its energy or carbon is spent."""

from __future__ import annotations

import time

import keras

from tfgreen.checks import check_number
from tfgreen.energy.laps import EnergyLaps
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.typing import PlainDict

_SECONDS = 5.0  # between two readings within an epoch
_TICK = 0.1  # seconds in which every counter moves


class EnergyBudget(keras.callbacks.Callback):
    """End a training, after a whole batch, once it has used its budget of energy or emissions.

    The energy is that of :class:`tg.EnergyMeter`, read every five seconds and at the end of each epoch, all trainings
    with this callback together; of a training that raises, what came after the last reading is missing. What it has
    come to stands in the attributes, and in ``logs`` as ``budget_used_kwh``.

    Args:
        max_kwh: Kilowatt-hours, > 0, or None.
        max_co2_kg: Kilograms of CO2 equivalent, > 0, or None; it needs a region.
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine.

    Attributes:
        kwh, co2_kg: What has been used so far; ``co2_kg`` is None without a region.
        spent: The sentence that says why training ended, or "".

    Raises:
        ValueError: No budget is given, one is not positive, the region is missing or unknown, the budget is spent
            before a training begins, or this machine gives no energy reading. Where readings fail later, the training
            ends as with a spent budget, which nobody could keep any more.

    Example:
        >>> budget = EnergyBudget(max_kwh=0.5)
        >>> budget.kwh, budget.spent
        (0.0, '')
    """

    def __init__(
        self, max_kwh: float | None = None, max_co2_kg: float | None = None, region: str | None = None
    ) -> None:
        super().__init__()
        check_number("max_kwh", max_kwh, above=0, optional=True)
        check_number("max_co2_kg", max_co2_kg, above=0, optional=True)
        if max_kwh is None and max_co2_kg is None:
            raise invalid_value("EnergyBudget", expected="max_kwh, max_co2_kg or both", received="neither")
        if max_co2_kg is not None and region is None:
            fix = "Pass the country of the grid, such as region='DEU'."
            raise invalid_value("region", expected="a region, for max_co2_kg", received=None, fix=fix)
        self.max_kwh, self.max_co2_kg = max_kwh, max_co2_kg
        self.kwh = 0.0
        self.co2_kg: float | None = None if region is None else 0.0
        self.spent = ""
        self._laps = EnergyLaps(region)

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        if self.spent:
            raise invalid_state(self.spent, "Give a new EnergyBudget for another training.")
        self._started = time.monotonic()
        self._laps.start()

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        if time.monotonic() - self._started >= _SECONDS:
            self._read()

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        self._read()
        if logs is not None:
            logs["budget_used_kwh"] = self.kwh

    def on_train_end(self, logs: PlainDict | None = None) -> None:
        self.close()  # the last epoch has been read

    def close(self) -> None:
        """Stop measuring. Keras's ``fit`` has it done at its end, and ``tg.fit`` also where it raises."""
        self._laps.stop()

    def _read(self) -> None:
        self._started = time.monotonic()
        reading = self._laps.lap()
        if reading.kwh is None and reading.duration_s < _TICK:
            return  # the counter has not moved yet, and the next reading begins where it stands
        if reading.kwh is None and self.kwh == 0:
            raise invalid_state(f"There is no energy reading: {reading.how}.", "Train without an energy budget.")
        if reading.kwh is None:
            lost = f"The budget cannot be kept: there is no energy reading any more ({reading.how})."
            self.spent = self.spent or lost
            self.model.stop_training = True
            return
        self.kwh += reading.kwh
        if self.co2_kg is not None:
            self.co2_kg += reading.co2e_kg or 0.0
        for used, most, unit in ((self.kwh, self.max_kwh, "kWh"), (self.co2_kg, self.max_co2_kg, "kg of CO2e")):
            if used is not None and most is not None and used >= most and not self.spent:
                self.spent = f"The budget of {most:g} {unit} is spent: the training used {used:.3g}."
                self.model.stop_training = True
