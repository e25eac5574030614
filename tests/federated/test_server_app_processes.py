"""The apps as a user starts them: a SuperLink, two SuperNodes and ``flwr run``, on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tfgreen as tg

BIN = Path(sys.executable).parent
PROJECT = """\
[project]
name = "trained"
version = "1.0.0"
description = "A federated training"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "me"
[tool.flwr.app.components]
serverapp = "trained.app:server_app"
clientapp = "trained.app:client_app"
[tool.flwr.app.config]
"""
APP = '''\
import json
import keras, numpy as np, tfgreen as tg

config = tg.federated.FederatedConfig(clients=2, rounds=3, batch_size=8, codec=tg.UpdateCodec(top_k=0.5), seed=3)

def model_fn():
    layers = keras.layers
    parts = [layers.Dense(64), layers.BatchNormalization(), layers.Dropout(0.1), layers.Dense(64), layers.Dense(3)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile("adam", "mse")
    return model

def data_fn(client):
    x = np.random.default_rng(client).normal(size=(40 + 8 * client, 6)).astype("float32")
    return x, np.tanh(x[:, :3])

def finished(run):
    np.savez(PATH, *run.model.get_weights())
    with open(PATH + ".json", "w") as file:
        json.dump(run.to_dict(), file)

PATH = {path!r}
client_app = tg.federated.client(model_fn, data_fn, config)
server_app = tg.federated.server(model_fn, config, finished=finished, evaluation_data=data_fn(9), timeout=300)
'''


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def started(log: Path, environment: dict[str, str], name: str, *arguments: str) -> Iterator[subprocess.Popen]:
    with log.open("w") as file:
        process = subprocess.Popen(
            [BIN / name, *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def wait_for(port: int, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None, "the SuperLink has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    pytest.fail("the SuperLink does not answer")


@pytest.mark.slow
@pytest.mark.skipif(not (BIN / "flower-superlink").exists(), reason="Flower is not installed")
def test_processes_train_the_weights_of_the_simulation(tmp_path):
    app, home, result = tmp_path / "app", tmp_path / "home", tmp_path / "result.npz"
    (app / "trained").mkdir(parents=True)
    home.mkdir()
    source = APP.replace("{path!r}", repr(str(result)))
    (app / "trained" / "app.py").write_text(source)
    (app / "trained" / "__init__.py").touch()
    (app / "pyproject.toml").write_text(PROJECT)
    port = free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = {
        **os.environ, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(Path(tg.__file__).parents[1]), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    link = ("--insecure", "--port", str(port), "--disable-runtime-dependency-installation")
    node = ("--insecure", "--superlink", f"127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        superlink = stack.enter_context(started(tmp_path / "link.log", environment, "flower-superlink", *link))
        wait_for(port, superlink)
        for client in (0, 1):
            options = ("--port", str(free_port()), "--node-config", f"partition-id={client}")
            log = tmp_path / f"node{client}.log"
            stack.enter_context(started(log, environment, "flower-supernode", *node, *options))
        command = [BIN / "flwr", "run", app, "here", "--stream"]
        ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    logs = ran.stdout + ran.stderr + "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))
    assert result.exists(), logs[-5000:]
    shutil.rmtree(home)

    user: dict = {}
    exec(source, user)
    expected = tg.federated.simulate(
        user["model_fn"], user["data_fn"], user["config"], evaluation_data=user["data_fn"](9)
    )
    with np.load(result) as weights:
        for number, weight in enumerate(expected.model.get_weights()):
            np.testing.assert_array_equal(weights[f"arr_{number}"], weight)
    account = json.loads(Path(f"{result}.json").read_text())
    for key in ("bytes_up", "bytes_down"):
        assert account[key] == getattr(expected, key)
    assert [[c["client"] for c in each["clients"]] for each in account["rounds"]] == [[0, 1]] * 3
    assert all(c["joules"] > 0 and not c["refused"] for each in account["rounds"] for c in each["clients"])
