"""Clips against references: the numbers of the papers' tables, for clips of any origin."""
