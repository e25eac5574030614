"""A user's script that names everything public, for ``test_typed_use.py``: ``mypy --strict`` finds nothing in it.

It is read by the type checker alone. An ignored error is one that a user must be told of: without it, mypy complains.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import keras
import numpy as np

import tfgreen as tg

version: str = tg.__version__


def look(path: Path) -> keras.Model:
    model = tg.load_model(path)
    profile = assert_type(tg.profile(model), tg.ModelProfile)
    costs: list[tg.LayerCost] = list(profile.layers)
    statuses: list[tg.WeightStatus] = list(assert_type(tg.summary(model), tg.ModelSummary).weights)
    print((profile.macs or 0) + 1, costs[0], statuses[0].sparsity + 0.5, version)
    tg.profile()  # type: ignore[call-arg]
    return model


def make_smaller(model: keras.Model, x: np.ndarray) -> keras.Model:
    schedules: list[tg.SparsitySchedule] = [tg.ConstantSparsity(0.5, begin_step=0)]
    schedules.append(tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100))
    config: tg.Config = tg.PruneConfig(schedule=schedules[1], policy=tg.PruneForLatencyOnXNNPack())
    assert_type(tg.PruneConfig.from_dict(config.to_dict()), tg.PruneConfig)
    model = tg.prune(model, schedule=schedules[0], scope="global")
    model = tg.cluster(model, tg.ClusterConfig(number_of_clusters=16))
    model = tg.quantize(model, tg.QuantizeConfig(calibration_data=x), weight_bits=8)
    tg.UpdateCompression(model).step()
    tg.CompressionSummaries("logs"), tg.TrainingBoard("logs")
    tg.prune(model, sparsity=0.5)  # type: ignore[call-arg]
    tg.prune(model, scope="everywhere")  # type: ignore[arg-type]
    return tg.strip(model)


class Clip(tg.TensorTransform):
    """A transform of one's own."""

    def apply(self, weight: Any) -> Any:
        return keras.ops.clip(weight, -1.0, 1.0)


def make_slim(model: keras.Model, x: np.ndarray) -> keras.Model:
    groups: list[tg.ChannelGroup] = list(assert_type(tg.channel_groups(model), tg.ChannelGroups))
    slim = tg.prune_channels(model, tg.ChannelPruneConfig(target_macs=0.5), criterion="l2")
    masked = tg.mask_channels(model, tg.ConstantSparsity(0.5, begin_step=0))
    slim = tg.remove_masked_channels(masked)
    widths: list[tg.LayerWidth] = list(assert_type(tg.compare_channels(model, slim), tg.ChannelComparison).layers)
    factorized = assert_type(tg.factorize(slim, tg.FactorizeConfig()), tg.Factorized)
    factors: list[tg.LayerFactors] = list(factorized.layers)
    slim = tg.trim_vocabulary(tg.shallow_copy(slim, layers=[0, 2]), used_ids=[1, 2, 3])
    print(groups, widths, factors)
    return tg.prune_layers(slim, x, layers=2)


def make_integers(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tg.LiteRTModel:
    model = tg.equalize(tg.fold_batch_norm(tg.merge_lora(model)))
    model = tg.correct_bias(tg.recalibrate_batch_norm(model, x), x)
    model = tg.quantize_weights(model, tg.QuantizeWeightsConfig(bits=4))
    found = assert_type(tg.search_precision(model, x, x=x, y=y), tg.MixedPrecision)
    trials: list[tg.Trial] = list(found.trials)
    ranges: type[tg.ActivationRange] = tg.ActivationRange
    print(trials, ranges)
    tg.convert(model, quantization="int7")  # type: ignore[arg-type]
    return tg.convert(model, tg.ConvertConfig(quantization="int8"), calibration_data=x)


def distil(teacher: keras.Model, student: keras.Model) -> tg.Distiller:
    losses: list[tg.DistillationLoss] = [
        tg.LogitsDistillation(temperature=2.0),
        tg.DecoupledDistillation(),
        tg.RelationalDistillation(),
        tg.FeatureDistillation(layer_map={3: 1}),
        tg.AttentionTransfer(),
        tg.AttentionMapDistillation(layer_map={3: 1}),
        tg.AttentionRelationDistillation(layer_map={3: 1}),
    ]
    cache: type[tg.TeacherCache] = tg.TeacherCache
    print(cache)
    return tg.Distiller(teacher, student, losses)


def train(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tg.TrainingRun:
    model = tg.fuse_batch_norm(model)
    batches = tg.pipeline((x, y), batch=64)
    stalls = assert_type(tg.profile_pipeline(model, batches), tg.PipelineProfile)
    trainings = {"in parts": tg.TrainingConfig(accumulate=4)}
    compared = assert_type(tg.compare_training(model, (x, y), trainings, metric="accuracy"), tg.TrainingComparison)
    print(stalls, compared)
    return tg.fit(model, (x, y), epochs=2, accumulate=2)


def check(model: keras.Model, lite: tg.LiteRTModel, x: np.ndarray, y: np.ndarray) -> bool:
    result = assert_type(tg.verify(model, lite, x), tg.VerifyResult)
    outputs: list[tg.OutputComparison] = list(result.outputs)
    limits: type[tg.VerifyLimits] = tg.VerifyLimits
    errors: list[tg.LayerComparison] = list(assert_type(tg.compare_layers(model, lite, x), tg.LayerErrors).layers)
    findings: list[tg.Finding] = list(assert_type(tg.check_calibration(model, x), tg.Findings))
    findings += tg.check_target(lite, "tflm")
    operators: list[tg.OperatorTime] = list(assert_type(tg.profile_operators(lite), tg.OperatorProfile).operators)
    assert_type(tg.benchmark(lite), tg.BenchmarkResult)
    assert_type(tg.benchmark({"one": lite, "other": lite}), tg.BenchmarkResults)
    inputs: list[tg.TensorInfo] = list(lite.inputs)
    weights: Mapping[str, tg.WeightTensor] = lite.weights
    statuses: list[tg.OperatorStatus] = list(assert_type(lite.audit, tg.Audit).operators)
    arena: tg.ArenaEstimate = lite.arena_bytes
    print(outputs, limits, errors, operators, inputs, weights, statuses, arena, lite.evaluate(x, y))
    tg.verify(model, "model.tflite", x)  # type: ignore[arg-type]
    return result.passed


def store(model: keras.Model, folder: Path) -> None:
    assert_type(tg.save_compressed(model, folder / "model.tfg"), Path)
    tg.load_compressed(folder / "model.tfg")
    try:
        assert_type(tg.load_litert(folder / "model.tflite"), tg.LiteRTModel)
    except (tg.FileError, tg.ConversionError, tg.InvalidValueError, tg.InvalidTypeError) as error:
        base: tg.TfgreenError = error
        print(base)


def optimize(model: keras.Model, data: tg.Data) -> None:
    split: tg.Split = data.train
    recipe: tg.Recipe | None = None
    budget: type[tg.Budget] = tg.Budget
    value = assert_type(tg.Metric.of(model).evaluate(model, split), tg.MetricValue)
    assert_type(tg.plan(model, data), tg.RunPlan)
    report = assert_type(tg.optimize(model, data, output="out"), tg.RunReport)
    curves: list[tg.Curve] = list(report.curves)
    found = assert_type(tg.search(model, data, output="found"), tg.SearchResult)
    points: list[tg.FrontPoint] = list(found.front)
    candidates: list[tg.Candidate] = list(found.candidates)
    print(recipe, budget, value, curves, points, candidates)
    tg.optimize(model, data)  # type: ignore[call-arg]


def account(model: keras.Model, lite: tg.LiteRTModel, x: np.ndarray) -> None:
    with tg.EnergyMeter(region="DEU") as meter:
        tg.EnergyLogger(), tg.EnergyBudget(max_kwh=0.1)
    reading = assert_type(meter.reading, tg.EnergyReading)
    parts: list[tg.EnergyComponent] = list(reading.components)
    log: type[tg.PowerLog] = tg.PowerLog
    prediction: type[tg.EnergyPrediction] = tg.EnergyPrediction
    one = assert_type(tg.inference_energy(lite, x), tg.InferenceEnergy)
    assert_type(tg.compare_energy({"one": lite, "other": lite}, x), tg.EnergyComparison)
    assert_type(tg.carbon_footprint(reading, region="DEU"), tg.CarbonFootprint)
    grid: type[tg.GridIntensity] = tg.GridIntensity
    embodied: type[tg.EmbodiedCarbon] = tg.EmbodiedCarbon
    assert_type(tg.sci(0.1, embodied=1.0, region="DEU"), tg.CarbonIntensity)
    assert_type(tg.break_even(one, tg.EnergyAmount(1e-3, None, "a power meter"), reading), tg.BreakEven)
    assert_type(tg.best_window(tg.write_example_series("grid.csv"), hours=6), tg.BestWindow)
    layers: list[tg.LayerEnergy] = list(assert_type(tg.estimate_energy(model), tg.EnergyEstimate).layers)
    devices: list[tg.DeviceEstimate] = list(assert_type(tg.recommend_device(lite), tg.DeviceRecommendation).estimates)
    device = assert_type(tg.DeviceProfile.named("horowitz-45nm"), tg.DeviceProfile)
    figures: Mapping[str, tg.DeviceFigure] = device.picojoules_per_mac
    levels: list[tg.MemoryLevel] = list(device.memory)
    print(parts, log, prediction, grid, embodied, layers, devices, figures, levels)


def federate(model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
    def data_fn(client: int) -> tuple[np.ndarray, np.ndarray]:
        return x[client::2], y[client::2]

    config = tg.federated.FederatedConfig(clients=2, rounds=1, codec=tg.UpdateCodec(top_k=0.1))
    run = assert_type(tg.federated.simulate(lambda: model, data_fn, config), tg.federated.FederatedRun)
    rounds: list[tg.federated.Round] = list(run.rounds)
    clients: list[tg.federated.ClientRound] = list(rounds[0].clients)
    print(clients, tg.federated.client(lambda: model, data_fn, config), tg.federated.server(lambda: model, config))


def come_from_tfmot(model: keras.Model) -> keras.Model:
    pruned = tg.compat.sparsity.keras.prune_low_magnitude(model)
    quantization = tg.compat.quantization.keras
    transforms = quantization.experimental.default_n_bit.default_n_bit_transforms
    print(transforms.InputLayerQuantize, quantization.graph_transformations.transforms.LayerNode)
    print(tg.compat.experimental.combine.strip_clustering_cqat, tg.compat.version)
    print(tg.compat.sparcity)  # type: ignore[attr-defined]
    print(tg.compat.clustering.keras.cluster_weight)  # type: ignore[attr-defined]
    print(transforms.InputLayerQuantise, quantization.quantizers.Quantiser)  # type: ignore[attr-defined]
    tg.compat.sparsity.keras.prune_low_magnitute(model)  # type: ignore[attr-defined]
    return tg.compat.sparsity.keras.strip_pruning(pruned)
