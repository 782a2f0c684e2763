"""The demonstration: a viral spike, real or drawn, and what readers see meanwhile."""
