"""``kipuka backup`` and ``kipuka restore``."""

from kipuka_core.cli.backup.make import backup
from kipuka_core.cli.backup.restore import restore

__all__ = ["backup", "restore"]
