"""The data sets that Accordion trains and measures on, and how batches are drawn from them."""

from accordion.data.batches import augment, batches_per_epoch, resize, training_batches
from accordion.data.datasets import Dataset, Split, available, load

__all__ = ["Dataset", "Split", "augment", "available", "batches_per_epoch", "load", "resize", "training_batches"]
