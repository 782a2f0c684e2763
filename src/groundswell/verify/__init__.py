"""The proof: clients that record what they asked and were told, checkers that judge it, faults."""
