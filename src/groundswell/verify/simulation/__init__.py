"""The protocol parts in one process, on virtual time, driven by a seed: the same seed, the same run."""
