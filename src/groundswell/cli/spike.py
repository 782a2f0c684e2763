"""`demo` and `replay`."""
