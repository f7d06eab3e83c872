"""TLS: contexts from settings, the client's certificate from a connection into the ASGI scope, channel binding."""
