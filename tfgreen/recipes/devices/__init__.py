"""What a model or a .tflite file costs on a device, and which device to choose."""
