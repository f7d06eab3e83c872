"""Ground floor: frozen values that every room speaks in. No I/O, no settings, no HTTP."""
