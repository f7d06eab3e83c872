"""The tables of ``kipuka.toml``, one class each. Defaults and descriptions here are the reference."""
