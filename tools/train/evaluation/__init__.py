"""Evaluation of generated Python functions: ask, cut, parse, execute apart, count."""
