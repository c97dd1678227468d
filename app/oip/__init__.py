"""The Open Inference Protocol without its transports: named tensors to a `Call`, a `Prediction` to named tensors."""
