"""The tables of docs/comparisons.md, each from the data files alone."""
