"""The door for plugins: hooks run once, at start-up, and hand over providers."""
