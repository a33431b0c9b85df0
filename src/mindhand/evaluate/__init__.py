"""Judging: protocols, rows, scores with intervals, the report."""
