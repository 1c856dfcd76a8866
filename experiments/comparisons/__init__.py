"""Accordion beside everything that the paper names: each method trained, written to real files, measured and counted alike.

`catalogue` lists what is to run, `execute` does one and leaves one JSON file in experiments/data/comparisons, `document` and
`figures` make docs/comparisons.md of these files. A method is one file in `methods`.
"""
