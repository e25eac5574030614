"""One shot: weights changed from calibration data alone, layer by layer, before any training."""
