"""The HTTP server: an ASGI application over one node."""
