"""The data sets that Accordion trains and measures on, and how batches are drawn from them."""

from accordion.data.batches import augment, batches_per_epoch, resize, training_batches
from accordion.data.dataset import Dataset, Split
from accordion.data.datasets import available, load
from accordion.data.own import name_of, pinned, same_pictures

__all__ = [
    "Dataset",
    "Split",
    "augment",
    "available",
    "batches_per_epoch",
    "load",
    "name_of",
    "pinned",
    "resize",
    "same_pictures",
    "training_batches",
]
