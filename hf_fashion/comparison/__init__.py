"""Lay finished runs side by side, best first, and say which differences are more than chance.

    hf-fashion compare runs/*
    hf-fashion compare runs/* --metric f1_macro --to comparison.png

Only runs that were measured on the same rows, with the same labels, are set against each other: their predictions are
paired row by row. `recipes/score.py --compare` brings models of one label a photo, of any origin, to the same rows.
Runs of attributes are compared by `--metric map`. `comparison.encoders` sets encoders against each other by what they
find; it needs sentence-transformers, so it is not imported here.
"""

from hf_fashion.comparison.models import distinct, figure, gather, results, summary
from hf_fashion.comparison.paired import pairs, pairs_by_map
from hf_fashion.comparison.runs import main

__all__ = ["distinct", "figure", "gather", "main", "pairs", "pairs_by_map", "results", "summary"]
