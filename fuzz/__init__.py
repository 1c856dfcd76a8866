"""Fuzzing of everything that reads what strangers write: `python -m fuzz list`.

A target is one parser, with seeds made from the golden packages and from values. Guided runs need atheris (the extra `fuzz`);
what they found worth keeping lies in `fuzz/corpus`, and the test suite replays it, and changes it at random, without atheris.
"""
