"""Delivered accuracy: what is right of the answers that a device can give when its deadline comes."""
