"""``kipuka plugins``: what is installed, what is enabled, whether it is sound, and what its settings are."""
