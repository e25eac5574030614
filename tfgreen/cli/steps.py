"""The steps of recipes and what each does, in a few words, without Keras."""

from __future__ import annotations

STEPS = {
    "train": "learns from the targets",
    "distill": "learns from the targets and from the original model",
    "prune_channels": "takes whole channels out: fewer MACs, in any file",
    "mask_channels": "holds whole channels at zero, one after the other, while the next step trains",
    "remove_masked_channels": "takes these channels out: fewer MACs, in any file",
    "factorize": "splits wide kernels of low rank in two",
    "prune": "sets single weights to zero while the next step trains: smaller when gzipped",
    "cluster": "shares values among the weights of a kernel: smaller when gzipped",
    "quantize": "makes the next step train with the rounding of the int8 file",
    "equalize": "brings the ranges of channels together, for a better int8 file",
    "correct_bias": "makes up for the mean error of int8 weights",
    "fold_batch_norm": "folds batch normalization into the layers before it",
    "recalibrate_batch_norm": "measures the statistics of batch normalization anew",
    "strip": "leaves plain layers of Keras, with what was won in their weights",
    "convert": "writes the .tflite file; quantization: float32, float16, dynamic, int8, int16x8 or int4",
    "check_target": "whether the target runs the file, and what memory it needs",
    "verify": "whether the file does what the model does",
    "benchmark": "latency on this machine",
    "energy": "joules of one inference on this machine",
}
