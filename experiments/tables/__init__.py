"""The tables of docs/evidence.md, each from the data files alone."""
