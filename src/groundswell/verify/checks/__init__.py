"""Checkers: each looks for one kind of contradiction, in what clients were told alone.

All take times in ns of one clock. What never completed ends at `history.NEVER`. A checker returns the
first contradiction that it finds, or None.
"""
