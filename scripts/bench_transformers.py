"""Compression of small transformers that are trained here, on the docstrings of the standard library.

    python scripts/bench_transformers.py prune [--model lm.keras]
    python scripts/bench_transformers.py weights [--model lm.keras]
    python scripts/bench_transformers.py distil [--seeds 3]
    python scripts/bench_transformers.py classify [--seeds 3]
    python scripts/bench_transformers.py large

``distil`` trains a BERT of KerasHub's to tell the package that a piece of text is from, and students of half its
layers, for as many epochs each: alone, and with the first as their teacher, from weights at random and from its own.
``classify`` trains an encoder to tell the same, and prints the accuracy and bytes of its files.
``large`` prunes a BERT of 110 million weights, which are random, in one shot, and prints seconds and memory.

Of the causal language model, reported is the perplexity per character on modules that training has not seen, and how
much it rises without any training after. ``--model`` keeps the trained model, or takes it if the file exists.

Language models of billions of weights have features that are ten and more times as large as most, on which pruning by
magnitude fails; in one of this size all are about equally large, and Wanda scores as magnitude does. So the model is
pruned twice: as trained, and with features scaled at random, which leaves what it computes as it is.
"""

from __future__ import annotations

import argparse
import math
import threading
import time
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import layers, ops
from text_data import Text, Topics, standard_library, topics

import tfgreen as tg

LENGTH, WIDTH, DEPTH, HEADS = 64, 64, 2, 4
WORDS, WIDE = 16, 128  # of the encoder that is converted
BATCH, STEPS, RATE = 32, 1000, 1e-2
SPREAD = 1.0  # deviation of the logarithm of what features are scaled by
CRITERIA: tuple[Literal["magnitude", "wanda", "sparsegpt"], ...] = ("magnitude", "wanda", "sparsegpt")
METHODS: tuple[Literal["rtn", "awq", "gptq"], ...] = ("rtn", "awq", "gptq")
KEPT = {"tokens": None, "positions": None, "head": None}  # as Wanda and SparseGPT do


def language_model(characters: int) -> keras.Model:
    """A decoder as in LLaMA: the norm before each part, no biases, gated feed-forward layers."""
    tokens = keras.Input((LENGTH,), dtype="int32", name="text")
    places = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = layers.Embedding(characters + 1, WIDTH, name="tokens")(tokens)
    x = layers.Add()([x, layers.Embedding(LENGTH, WIDTH, name="positions")(places)])
    for block in range(DEPTH):
        y = layers.RMSNormalization(name=f"norm_{block}")(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, use_bias=False, name=f"attention_{block}")
        x = layers.Add()([x, attention(y, y, use_causal_mask=True)])
        y = layers.RMSNormalization(name=f"norm_of_features_{block}")(x)
        gate = layers.Dense(3 * WIDTH, activation="silu", use_bias=False, name=f"gate_{block}")(y)
        y = layers.Multiply()([gate, layers.Dense(3 * WIDTH, use_bias=False, name=f"up_{block}")(y)])
        x = layers.Add()([x, layers.Dense(WIDTH, use_bias=False, name=f"down_{block}")(y)])
    head = layers.Dense(characters + 1, use_bias=False, name="head")
    return keras.Model(tokens, head(layers.RMSNormalization()(x)))


def with_uneven_features(model: keras.Model) -> keras.Model:
    """A copy of equal outputs: what each kernel multiplies is scaled feature by feature, and the kernel back."""
    rng, result = np.random.default_rng(0), keras.models.clone_model(model)
    result.set_weights(model.get_weights())
    for block in range(DEPTH):
        attention = result.get_layer(f"attention_{block}")
        up, down = (result.get_layer(f"{name}_{block}").kernel for name in ("up", "down"))
        heads = attention.query_dense.kernel, attention.key_dense.kernel, attention.value_dense.kernel
        gate = result.get_layer(f"gate_{block}").kernel
        pairs = [
            (result.get_layer(f"norm_{block}").scale, heads),
            (result.get_layer(f"norm_of_features_{block}").scale, (gate, up)),
            (attention.value_dense.kernel, (attention.output_dense.kernel,)),
            (up, (down,)),
        ]
        for made, read in pairs:
            axes = 2 if read[0] is attention.output_dense.kernel else 1  # heads and their features
            scales = rng.lognormal(0.0, SPREAD, made.shape[-axes:])
            made.assign(made * scales)
            for kernel in read:
                kernel.assign(kernel / scales.reshape(*scales.shape, *[1] * (len(kernel.shape) - axes)))
    return result


def trained(text: Text, path: Path | None, seed: int = 0) -> keras.Model:
    """The model at a path, or a new one that is then kept there."""
    path = path.with_stem(f"{path.stem}_{seed}") if path is not None and seed else path
    if path is not None and path.exists():
        return tg.load_model(path)
    keras.utils.set_random_seed(seed)
    model = language_model(len(text.characters))
    rate = keras.optimizers.schedules.CosineDecay(0.0, STEPS, warmup_target=RATE, warmup_steps=STEPS // 20)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, 0.1, beta_2=0.98), loss)
    chosen = text.train[np.random.default_rng(seed).permutation(len(text.train))]
    chosen = np.resize(chosen, (BATCH * STEPS, LENGTH + 1))
    start = time.perf_counter()
    model.fit(chosen[:, :-1], chosen[:, 1:], batch_size=BATCH, shuffle=False, verbose=2)
    print(f"trained {model.count_params():,} weights in {time.perf_counter() - start:.0f} s", flush=True)
    if path is not None:
        model.save(path)
    return model


def perplexity(model: keras.Model, windows: np.ndarray) -> float:
    """The exponential of the mean cross-entropy of the next character."""
    logits = model.predict(windows[:, :-1], verbose=0).astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(shifted, windows[:, 1:, None], -1)[..., 0]
    return math.exp(float(np.mean(np.log(np.exp(shifted).sum(-1)) - chosen)))


def prune(text: Text, model: keras.Model, calibration: int, windows: int) -> None:
    """One-shot pruning by magnitude, Wanda and SparseGPT, at half of the weights and at 2 of every 4."""
    some = np.random.default_rng(1)
    x = text.train[some.choice(len(text.train), calibration, replace=False), :-1]
    test = text.test[some.choice(len(text.test), min(windows, len(text.test)), replace=False)]
    print(f"calibrated on {calibration} windows of {LENGTH} characters, tested on {len(test)}")
    for features, case in (("as trained", model), ("uneven", with_uneven_features(model))):
        dense = perplexity(case, test)
        print(f"features {features}: perplexity {dense:.3f}", flush=True)
        for pattern, m_by_n in (("50 %", None), ("2:4", (2, 4))):
            risen: dict[str, float] = {}
            for criterion in CRITERIA:
                data = None if criterion == "magnitude" else x
                start = time.perf_counter()
                pruned = tg.prune(case, criterion=criterion, calibration_data=data, m_by_n=m_by_n, layers=KEPT)
                tg.UpdateCompression(pruned)  # sets the masks of magnitude
                seconds = time.perf_counter() - start
                risen[criterion] = perplexity(tg.strip(pruned), test) - dense
                share = f"{risen[criterion] / risen['magnitude']:.2f} of magnitude's"
                print(f"  {pattern:5} {criterion:10} +{risen[criterion]:7.3f}  {share}, {seconds:.1f} s", flush=True)


def quantize_weights(text: Text, path: Path | None, calibration: int, windows: int, seeds: int) -> None:
    """Weights in 4 bits, a scale for every 32 of them: to nearest, by AWQ and by GPTQ, of models of several seeds."""
    for seed in range(seeds):
        model, some = trained(text, path, seed), np.random.default_rng(seed)
        x = text.train[some.choice(len(text.train), calibration, replace=False), :-1]
        test = text.test[some.choice(len(text.test), min(windows, len(text.test)), replace=False)]
        for features, case in (("as trained", model), ("uneven", with_uneven_features(model))):
            dense, risen = perplexity(case, test), dict[str, float]()
            print(f"seed {seed}, features {features}: perplexity {dense:.4f}", flush=True)
            for method in METHODS:
                data = None if method == "rtn" else x
                start = time.perf_counter()
                rounded = tg.quantize_weights(
                    case, bits=4, group_size=32, method=method, calibration_data=data, layers=KEPT
                )
                seconds = time.perf_counter() - start
                risen[method] = perplexity(rounded, test) - dense
                share = f"{risen[method] / risen['rtn']:.2f} of that to nearest"
                print(f"  {method:5} +{risen[method]:.4f}  {share}, {seconds:.1f} s", flush=True)


def bert(data: Topics, blocks: int) -> keras.Model:
    """A classifier of KerasHub's, small, with weights at random."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(data.vocabulary), num_layers=blocks, num_heads=4, hidden_dim=64, intermediate_dim=128,
        max_sequence_length=data.x_train.shape[1],
    )
    return keras_hub.models.BertTextClassifier(backbone, num_classes=len(data.classes), preprocessor=None)


def inputs_of(tokens: np.ndarray) -> dict[str, np.ndarray]:
    mask = (tokens > 0).astype("int32")
    return {"token_ids": tokens, "segment_ids": np.zeros_like(tokens), "padding_mask": mask}


def distil(seeds: int, epochs: int = 4, blocks: int = 4) -> None:
    """Students of half the layers, each trained for as many epochs as the teacher: alone, and with the teacher."""
    data = topics()
    test = inputs_of(data.x_test)
    print(f"{len(data.x_train):,} pieces to train on, {len(data.x_test):,} to test on, {len(data.classes)} packages")

    def fitted(model: keras.Model, trained: keras.Model) -> float:
        steps = epochs * (len(data.y_train) // 64)
        rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=1e-3, warmup_steps=steps // 10)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trained.compile(keras.optimizers.AdamW(rate, 0.01), loss)
        order = np.random.default_rng(seed).permutation(len(data.y_train))  # KerasHub's models do not shuffle
        x, y = inputs_of(data.x_train[order]), data.y_train[order]
        trained.fit(x, y, batch_size=64, epochs=epochs, shuffle=False, verbose=0)
        classes = model.predict(test, batch_size=256, verbose=0).argmax(-1)
        return 100 * float((classes == data.y_test).mean())

    losses = [tg.LogitsDistillation(2.0), tg.FeatureDistillation(layer_map={blocks // 2 - 1: 0, blocks - 1: 1})]
    gains: dict[str, list[float]] = {}
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        teacher = bert(data, blocks)
        of_teacher = fitted(teacher, teacher)
        keras.utils.set_random_seed(seed)
        student = bert(data, blocks // 2)
        alone = fitted(student, student)
        print(f"seed {seed}: teacher {of_teacher:.2f} %, student alone {alone:.2f} %", flush=True)
        for name in ("distilled, from random weights", "distilled, from layers of the teacher"):
            keras.utils.set_random_seed(seed)
            random = name.endswith("random weights")
            student = bert(data, blocks // 2) if random else tg.shallow_copy(teacher, blocks // 2)
            distiller = tg.Distiller(teacher, student, losses, [1.0, 0.1], student_loss_weight=0.3)
            gains.setdefault(name, []).append(fitted(student, distiller) - alone)
            print(f"  {name}: {gains[name][-1]:+.2f} points over alone", flush=True)
    for name, values in gains.items():
        print(f"{name}: {np.mean(values):+.2f} points over alone, from {min(values):+.2f} to {max(values):+.2f}")


def large() -> None:
    """One-shot pruning of a model of the size of BERT base, on 128 samples of 128 tokens."""
    import keras_hub
    import psutil

    keras.utils.set_random_seed(0)
    model = keras_hub.models.BertBackbone(
        vocabulary_size=30522, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072,
        max_sequence_length=128,
    )
    tokens = np.random.default_rng(0).integers(1, 30522, (128, 128)).astype("int32")
    megabytes, process = 4 * model.count_params() / 1e6, psutil.Process()
    print(f"{model.count_params():,} weights, {megabytes:.0f} MB")
    for criterion in ("wanda", "sparsegpt"):
        before, peak, done = process.memory_info().rss, [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                peak[0] = max(peak[0], process.memory_info().rss)

        watcher, start = threading.Thread(target=watch), time.perf_counter()
        watcher.start()
        pruned = tg.prune(model, criterion=criterion, calibration_data=inputs_of(tokens))
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        more = (peak[0] - before) / 1e6
        share = f"{more / megabytes:.2f} of the model"
        print(f"{criterion}: {seconds:.0f} s, {more:.0f} MB more at most ({share})", flush=True)
        del pruned


def encoder(words: int, classes: int) -> keras.Model:
    """An encoder as in BERT, which tells the package of a docstring by some of its words."""
    tokens = keras.Input((WORDS,), dtype="int32", name="words")
    places = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = layers.Add()([layers.Embedding(words, WIDE)(tokens), layers.Embedding(WORDS, WIDE)(places)])
    x = layers.Dropout(0.3)(layers.LayerNormalization()(x))
    for _ in range(DEPTH):
        y = layers.MultiHeadAttention(HEADS, WIDE // HEADS)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dropout(0.3)(y)]))
        y = layers.Dense(WIDE)(layers.Dense(2 * WIDE, activation="gelu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dropout(0.3)(y)]))
    return keras.Model(tokens, layers.Dense(classes)(layers.GlobalAveragePooling1D()(x)))


def classify(seeds: int) -> None:
    """The accuracy and bytes of the int8 file of a classifier, after training and trained for it, beside the float."""
    data = topics(WORDS)
    print(f"{len(data.x_train):,} pieces to train on, {len(data.x_test):,} to test on, {len(data.classes)} packages")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    drops: dict[str, list[float]] = {"post-training": [], "aware": []}
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model = encoder(len(data.vocabulary), len(data.classes))
        known = data.x_train[np.random.default_rng(seed).choice(len(data.x_train), 512, replace=False)]
        for case, rate, epochs in (("float", 1e-3, 4), ("aware", 1e-4, 1)):
            case_model = tg.quantize(model, calibration_data=known) if case == "aware" else model
            steps = epochs * math.ceil(len(data.x_train) / BATCH)
            case_model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(rate, steps)), loss)
            case_model.fit(data.x_train, data.y_train, batch_size=BATCH, epochs=epochs, verbose=0)
            if case == "float":
                files = {"float": tg.convert(model)}
                files["post-training"] = tg.convert(model, quantization="int8", calibration_data=known)
            else:
                files["aware"] = tg.convert(case_model, quantization="int8")
        right = {name: float(lite.evaluate(data.x_test, data.y_test)) for name, lite in files.items()}
        whole = len(files["float"].content)
        print(f"seed {seed}: float {right['float']:.4f}, {whole:,} bytes")
        for name in drops:
            drops[name].append(100 * (right["float"] - right[name]))
            size = len(files[name].content)
            print(f"  {name:13} {drops[name][-1]:+.2f} points less, {size:,} bytes, {size / whole:.3f}", flush=True)
    for name, found in drops.items():
        print(f"{name}: {np.mean(found):+.2f} points less on average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prune", "weights", "distil", "classify", "large"])
    parser.add_argument("--model", type=Path, help="a .keras file to keep the trained model in")
    parser.add_argument("--calibration", type=int, default=256, help="windows that are calibrated on")
    parser.add_argument("--windows", type=int, default=256, help="windows that are tested on")
    parser.add_argument("--seeds", type=int, default=3, help="models, each trained and tested with a seed of its own")
    arguments = parser.parse_args()
    if arguments.what == "distil":
        return distil(arguments.seeds)
    if arguments.what == "classify":
        return classify(arguments.seeds)
    if arguments.what == "large":
        return large()
    text = standard_library(LENGTH)
    if arguments.what == "prune":
        prune(text, trained(text, arguments.model), arguments.calibration, arguments.windows)
    else:
        quantize_weights(text, arguments.model, arguments.calibration, arguments.windows, arguments.seeds)


if __name__ == "__main__":
    main()
