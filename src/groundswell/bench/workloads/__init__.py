"""The workloads, in the order in which they are run."""
