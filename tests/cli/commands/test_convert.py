"""``tfgreen convert``."""

from __future__ import annotations

import json
import os

import numpy as np

import tfgreen as tg
from tests import zoo


def test_convert_verify_and_benchmark(run, files, tmp_path):
    for quantization, data in (("float32", ""), ("int8", " --data @good.npz")):
        command = f"convert @model.keras --quantization {quantization}{data} --output {tmp_path}/a/b"
        code, out, _ = run(command)
        path = tmp_path / "a" / "b" / f"model-{quantization}.tflite"
        assert code == 0 and path.exists() and str(path) in out
        code, out, _ = run(f"{command} --json")
        facts = json.loads(out)
        assert code == 0 and facts["size_bytes"] == path.stat().st_size and facts["quantization"] == quantization
        code, out, _ = run(f"verify @model.keras {path} --data @good.npz")
        assert code == 0 and "passed" in out
        code, out, _ = run(f"benchmark {path} --runs 5 --json")
        assert code == 0 and json.loads(out)["runs"] == 5
    code, out, _ = run(f"benchmark {path} --runs 5 --threads 2")
    assert code == 0 and "2 threads" in out
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["model-float32.tflite", "model-int8.tflite"]


def test_convert_with_choices_and_a_target(run, files, tmp_path):
    command = f"convert @model.keras --quantization int8 --data @good.npz --output {tmp_path} --json"
    kept = tg.load_model(files / "model.keras").layers[0].name
    code, out, _ = run(f"{command} --keep-float {kept} --calibration mse --dynamic-batch")
    assert code == 0 and json.loads(out)["operators"]
    lite = tg.load_litert(json.loads(out)["path"])
    assert lite.inputs[0].shape == (None, 4) and lite.audit.float_layers == (kept,)
    code, out, _ = run(f"{command} --layer {kept}=int4")
    assert code == 0 and {w.bits for w in tg.load_litert(json.loads(out)["path"]).weights.values()} == {4, 8}
    code, out, _ = run(f"{command} --strict --runs-on edgetpu")
    assert code == 0 and any("Edge TPU" in note for note in json.loads(out)["notes"])
    code, out, _ = run(f"convert @model.keras --flex --output {tmp_path} --json")
    assert code == 0 and not any(name.startswith("Flex") for name in json.loads(out)["operators"])
    code, _, err = run(f"convert @model.keras --output {tmp_path}/none --runs-on edgetpu")
    assert code != 0 and "--quantization int8" in err and not (tmp_path / "none").exists()


def test_convert_to_a_file_of_a_name(run, files, tmp_path):
    path = tmp_path / "new" / "small.tflite"
    code, out, _ = run(f"convert @model.keras --quantization float16 --output {path} --json")
    assert code == 0 and json.loads(out)["path"] == str(path) and os.listdir(tmp_path / "new") == ["small.tflite"]
    (tmp_path / "folder.tflite").mkdir()
    code, out, _ = run(f"convert @model.keras --output {tmp_path}/folder.tflite")
    assert code == 0 and os.listdir(tmp_path / "folder.tflite") == ["model-float32.tflite"]


def test_a_quantized_model_converts_without_data(run, files, tmp_path):
    model = tg.load_model(files / "model.keras")
    x = np.random.default_rng(0).random((32, *model.input_shape[1:]), np.float32)
    tg.quantize(model, tg.QuantizeConfig(calibration_data=x)).save(tmp_path / "quantized.keras")
    command = f"convert {tmp_path}/quantized.keras --quantization int8 --output {tmp_path} --json"
    code, out, _ = run(command)
    assert code == 0 and json.loads(out)["quantization"] == "int8"


def test_convert_and_verify_a_model_with_several_inputs(run, files, tmp_path):
    np.savez(tmp_path / "both.npz", **zoo.sample("multi_io", 40))
    np.savez(tmp_path / "one.npz", image=zoo.sample("multi_io", 40)["image"])
    command = f"convert @multi.keras --quantization int8 --output {tmp_path} --data {tmp_path}"
    code, out, _ = run(f"{command}/both.npz --json")
    assert code == 0
    path = json.loads(out)["path"]
    assert run(f"verify @multi.keras {path} --data {tmp_path}/both.npz")[0] == 0
    code, _, err = run(f"{command}/one.npz")
    assert code != 0 and "error: --data" in err and "meta" in err
