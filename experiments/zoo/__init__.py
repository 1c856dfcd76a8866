"""Packages tried by a program that shares nothing with what made them: their bytes, plain ONNX Runtime, and the test pictures,
as they are, without near-duplicates of training pictures, and corrupted."""
