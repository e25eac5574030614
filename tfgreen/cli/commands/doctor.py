"""``tfgreen doctor``: what this machine has."""

from __future__ import annotations

import argparse

from tfgreen.cli.arguments import add_result
from tfgreen.cli.command import OK, Command
from tfgreen.cli.printing import check_output, give
from tfgreen.cli.start import start_tensorflow


def doctor(arguments: argparse.Namespace) -> int:
    """Versions, accelerators and energy sources of this machine."""
    check_output(arguments)
    start_tensorflow(arguments)
    import tensorflow as tf

    from tfgreen.energy.doctor import energy_sources
    from tfgreen.reports.environment import environment

    facts = environment()
    devices = [f"{device.device_type} {device.name}" for device in tf.config.list_physical_devices()]
    sources = energy_sources()
    found = {**facts, "devices": devices, "energy_sources": [vars(source) for source in sources]}
    packages = {name: version or "not installed" for name, version in facts.pop("packages").items()}
    rows = {**facts, **packages, "devices of TensorFlow": ", ".join(devices)}
    rows |= {source.name: f"{'yes' if source.available else 'no'}: {source.detail}" for source in sources}
    give(arguments, found, "\n".join(f"{k.replace('_', ' '):<32}{v}" for k, v in rows.items()), arguments.output)
    return OK


COMMAND = Command(doctor, add_result, ("tfgreen doctor",))
