"""Protocol: bytes to model and back. Pure and synchronous; knows no HTTP, no TLS objects and no decisions."""
