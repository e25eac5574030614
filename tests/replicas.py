"""Run code under MirroredStrategy on two logical CPU devices."""

import subprocess
import sys

_START = """
import keras, numpy as np, tensorflow as tf, tfgreen as tg
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""


def on_two_replicas(code: str) -> None:
    """Run code that finds ``strategy`` in a process of its own: devices are set before TensorFlow starts."""
    start = [sys.executable, "-c", _START + code + "\nprint('reached the end')"]
    done = subprocess.run(start, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("reached the end")
