"""Accordion: adaptive-bitrate streaming for neural networks."""
