"""The pictures of docs/evidence.md, each from the data files alone."""
