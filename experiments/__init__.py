"""The evidence: a list of trainings, what came of each, and the tables and pictures that follow from it.

    python -m experiments list

Not part of the installed package. Data flows one way here too: `catalogue` says what is to be run, `execute` runs it into
`experiments/data/`, and `tables` and `figures` read nothing but those files.
"""
