"""The directory that belongs to the server."""

from __future__ import annotations

from kipuka_core.config import Config
from kipuka_core.errors import ConfigurationError


def check_state_dir(config: Config) -> None:
    """Raise ConfigurationError where it is not there.

    It is not made here: where the name is wrong, a server on a new and empty database would know none of its devices.
    """
    directory = config.server.state_dir
    if not directory.is_dir():
        raise ConfigurationError(
            "server.state_dir",
            f"{directory} is not a directory; correct it, or make one for the server's user, such as with"
            f" install -d -m 0700 {directory}",
        )
