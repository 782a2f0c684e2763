"""Implementations of the contract in `groundswell.transport`."""
