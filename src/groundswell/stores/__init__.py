"""Drivers: each implements the contract in `groundswell.store`."""
