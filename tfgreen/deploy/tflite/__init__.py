"""The bytes of a .tflite file; nothing here imports Keras."""
