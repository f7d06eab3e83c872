"""Serving: bound sockets, worker processes under a supervisor, and the accept loop that feeds hypercorn."""
