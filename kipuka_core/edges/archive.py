"""Files of old records: JSON lines in gzip, one member for each chunk, on disk before :func:`append` returns."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kipuka_core.hooks.directories import sync_directory


def append(file: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add records to a file that belongs to its owner alone, and is made if need be. Raises OSError.

    What a crash cuts off is the last member; its records are still in the database then.
    """
    lines = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_new = not file.exists()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as archive:
        archive.write(gzip.compress(lines.encode()))
        archive.flush()
        os.fsync(archive.fileno())
    if is_new:
        sync_directory(file.parent)
