"""The changes, oldest first; a file is named ``<revision>_<what>.py``."""
