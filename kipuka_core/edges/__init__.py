"""The outside world: HTTP, TLS, the database, the log. Nothing but the composition root imports from here."""
