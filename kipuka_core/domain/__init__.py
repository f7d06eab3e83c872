"""Decisions. Sees the model and the ports; knows no HTTP, no database, no TLS objects."""
