"""A .tflite file of a few operators in a chain, written without a model, to measure what they take here."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

_SCALE = 0.05
# From which version on an operator has an integer kernel; 3 for others.
_INT8_VERSIONS = {"ADD": 2, "LOGISTIC": 2, "SOFTMAX": 2, "FULLY_CONNECTED": 4, "BATCH_MATMUL": 4}
_OPERATORS, _TYPES, _OPTIONS = schema.BuiltinOperator, schema.TensorType, schema.BuiltinOptions


class Chain:
    """A file of one operator after the other, and what it computes."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        self.macs = self.elements = self.weight_bytes = 0
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[schema.OperatorT] = []
        self.codes: list[schema.OperatorCodeT] = []
        self.last = self._tensor(shape)

    def additions(self, count: int) -> Chain:
        for _ in range(count):
            self._step("ADD", [self.last, 0], self.shape, schema.AddOptionsT())
        return self

    def functions(self, name: str, count: int) -> Chain:
        """Sigmoids or softmaxes; the result of an integer one has a scale of its own."""
        for _ in range(count):
            options = schema.SoftmaxOptionsT(beta=1.0) if name == "SOFTMAX" else None
            self._step(name, [self.last], self.shape, options, (1 / 256, -128))
        return self

    def transposed(self, channels: int, count: int) -> Chain:
        """Transposed convolutions of 2x2 and stride 2."""
        for _ in range(count):
            batch, height, width, before = self._shape(self.last)
            after = (batch, 2 * height, 2 * width, channels)
            kernel = self._weights((channels, 2, 2, before), axis=0)[0]
            shape = self._tensor((4,))
            self.tensors[shape].type, self.tensors[shape].quantization = _TYPES.INT32, None
            self._hold(shape, np.array(after, np.int32))
            options = schema.TransposeConvOptionsT(strideW=2, strideH=2)
            self._step("TRANSPOSE_CONV", [shape, kernel, self.last], after, options)
            self.macs += height * width * before * 4 * channels
        return self

    def products(self, count: int) -> Chain:
        """Products of two results, as attention has them."""
        for _ in range(count):
            self._step("BATCH_MATMUL", [self.last, 0], self.shape, schema.BatchMatMulOptionsT())
            self.macs += int(np.prod(self.shape)) * self.shape[-1]
        return self

    def convolutions(self, channels: int, kernel: int, count: int) -> Chain:
        for number in range(count):
            before = self._shape(self.last)
            after = (*before[:-1], channels if number % 2 == 0 else self.shape[-1])
            options = schema.Conv2DOptionsT(strideW=1, strideH=1, fusedActivationFunction=1)
            weights = self._weights((after[-1], kernel, kernel, before[-1]), axis=0)
            self._step("CONV_2D", [self.last, *weights], after, options)
            self.macs += int(np.prod(after)) * kernel**2 * before[-1]
        return self

    def depthwise(self, count: int) -> Chain:
        for _ in range(count):
            options = schema.DepthwiseConv2DOptionsT(
                strideW=1, strideH=1, depthMultiplier=1, fusedActivationFunction=1
            )
            weights = self._weights((1, 3, 3, self.shape[-1]), axis=3)
            self._step("DEPTHWISE_CONV_2D", [self.last, *weights], self.shape, options)
            self.macs += int(np.prod(self.shape)) * 9
        return self

    def dense(self, units: int, count: int) -> Chain:
        for _ in range(count):
            before = self._shape(self.last)
            inputs = [self.last, *self._weights((units, before[-1]))]
            self._step("FULLY_CONNECTED", inputs, (1, units), schema.FullyConnectedOptionsT())
            self.macs += units * before[-1]
        return self

    def content(self) -> bytes:
        """The bytes of the file."""
        graph = schema.SubGraphT(self.tensors, [0], [self.last], self.operators)
        return bytes(convert_object_to_bytearray(schema.ModelT(3, self.codes, [graph], buffers=self.buffers)))

    def _step(
        self,
        name: str,
        inputs: list[int],
        shape: tuple[int, ...],
        options: object,
        scale: tuple[float, int] | None = None,
    ) -> None:
        code = getattr(_OPERATORS, name)
        version = _INT8_VERSIONS.get(name, 3) if self.dtype == "int8" else 1
        self.codes.append(schema.OperatorCodeT(code, version=version, builtinCode=code))
        kind = 0 if options is None else getattr(_OPTIONS, type(options).__name__.removesuffix("T"))
        output = self._tensor(shape, scale)
        self.operators.append(schema.OperatorT(len(self.codes) - 1, inputs, [output], kind, options))
        self.last = output
        self.elements += int(np.prod(shape))

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def _tensor(self, shape: tuple[int, ...], scale: tuple[float, int] | None = None) -> int:
        tensor = schema.TensorT(list(shape), name=f"tensor {len(self.tensors)}", type=_TYPES.FLOAT32)
        if self.dtype == "int8":
            tensor.type, (step, zero) = _TYPES.INT8, scale or (_SCALE, 0)
            tensor.quantization = schema.QuantizationParametersT(scale=[step], zeroPoint=[zero])
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _hold(self, place: int, values: np.ndarray) -> None:
        """Make a tensor constant."""
        self.tensors[place].buffer = len(self.buffers)
        self.buffers.append(schema.BufferT(np.frombuffer(values.tobytes(), np.uint8)))

    def _weights(self, shape: tuple[int, ...], axis: int | None = None) -> list[int]:
        """A kernel of small random numbers and a bias of 0."""
        rng, count = np.random.default_rng(0), shape[0 if axis is None else axis]
        kernel: np.ndarray = rng.standard_normal(shape, np.float32) / 100
        bias: np.ndarray = np.zeros(count, np.float32)
        if self.dtype == "int8":
            kernel, bias = rng.integers(-127, 128, shape, np.int8), np.zeros(count, np.int32)
        found = []
        for values, scale in ((kernel, 0.01), (bias, 0.01 * _SCALE)):
            place = self._tensor(values.shape)
            tensor = self.tensors[place]
            self.weight_bytes += values.nbytes
            self._hold(place, values)
            if self.dtype == "int8":
                scales = [scale] * (1 if axis is None else count)
                quantized = 0 if values.ndim == 1 or axis is None else axis
                tensor.type = _TYPES.INT32 if values.dtype == np.int32 else _TYPES.INT8
                tensor.quantization = schema.QuantizationParametersT(
                    scale=scales, zeroPoint=[0] * len(scales), quantizedDimension=quantized
                )
            found.append(place)
        return found
