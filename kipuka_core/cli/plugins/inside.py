"""The process that :mod:`kipuka_core.cli.plugins.contained` starts: looks at one plugin and writes down what it sees.

Each record is one line of JSON, written at once, so that what was seen before a crash is not lost: ``step``,
``finding``, ``facts``, ``text``, ``error`` and at last ``done``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

_LARGEST_FILE_BYTES = 64 << 20
"""For a plugin that prints without end."""


class Records:
    """The file of records. What could be a secret of the configuration is blotted out on the way."""

    def __init__(self, path: str) -> None:
        # Through a descriptor of its own: whatever a plugin does to sys.stdout, this stays as it is.
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._secrets: set[str] = set()

    def keep_secret(self, *secrets: str) -> None:
        """Never write these."""
        self._secrets.update(secret for secret in secrets if secret)

    def write(self, kind: str, value: Any) -> None:
        """Add a record; a ``text``, which holds nothing of a configuration, as it is."""
        text = json.dumps({kind: value if kind == "text" else self._clean(value)}, ensure_ascii=True)
        os.write(self._file, text.encode("ascii") + b"\n")

    def _clean(self, value: Any) -> Any:
        match value:
            case str():
                from kipuka_core.edges.log import redact_text  # noqa: PLC0415  # after the limits are set

                for secret in sorted(self._secrets, key=len, reverse=True):
                    value = value.replace(secret, "…")
                return redact_text(value)
            case dict():
                return {name: self._clean(each) for name, each in value.items()}
            case list() | tuple():
                return [self._clean(each) for each in value]
            case _:
                return value


def main(request: dict[str, Any]) -> None:
    """Do what the request says."""
    # A core dump would hold every secret that was read.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE_BYTES, _LARGEST_FILE_BYTES))
    sys.path[:] = request["path"]  # as the command has it, so that the same distributions are found
    from kipuka_core.errors import KipukaError  # noqa: PLC0415  # found by this path
    from kipuka_core.quick_contracts.provider import place_of  # noqa: PLC0415

    records = Records(request["records"])
    try:
        _work(request["do"])(request, records)
    except KipukaError as error:
        records.write("error", str(error))
    except Exception as error:  # noqa: BLE001  # of a plugin's code in a place where none was expected
        records.write("error", f"it raised {type(error).__name__}{place_of(error)}")
    records.write("done", True)
    records.write("step", "ending")


def _work(name: str) -> Callable[[dict[str, Any], Records], None]:
    if name == "check":
        from kipuka_core.cli.plugins.examine import examine  # noqa: PLC0415  # the one or the other

        return examine
    from kipuka_core.cli.plugins.documented import document  # noqa: PLC0415

    return document


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
