"""The reference model: the contract in plain dictionaries.

Written to be obviously right rather than fast, and independent of the other stores, so that it can be
the oracle of their tests. Nothing survives the process.
"""

from groundswell.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
