"""HTTP: the EST listener's application, the admin listener's, and the only table from error to status."""
