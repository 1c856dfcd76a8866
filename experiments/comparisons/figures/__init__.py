"""The pictures of docs/comparisons.md, each from the data files alone."""
