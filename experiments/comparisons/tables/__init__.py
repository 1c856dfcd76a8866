"""The tables of docs/comparisons.md and docs/comparisons-in-full.md, each from the data files alone."""
