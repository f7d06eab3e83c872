"""Plugins by the name that a person types, without loading any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from kipuka_core.errors import KipukaError
from kipuka_core.hooks.manager import GROUP, nearest

_RUNS = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class Installed:
    """An entry point of the group ``kipuka.plugins``."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} of distribution {self.distribution} {self.version}"


def installed() -> list[Installed]:
    """All of them, by name."""
    return sorted((_about(each) for each in entry_points(group=GROUP)), key=lambda each: each.name)


def plugins_named(name: str) -> list[Installed]:
    """The plugin of this name, or every one of the distribution of this name; empty: there is neither.

    Raises KipukaError for a name that two distributions claim.
    """
    everything = installed()
    found = [each for each in everything if each.name == name]
    if len(found) > 1:
        claimants = " and ".join(each.distribution for each in found)
        raise KipukaError(f"distributions {claimants} both claim the plugin name {name!r}; uninstall one")
    return found or [each for each in everything if _normal(each.distribution) == _normal(name)]


def not_installed(name: str, also: tuple[str, ...] = ()) -> KipukaError:
    """The error for a name that nothing has; ``also`` are other names that would have been good."""
    everything = installed()
    known = dict.fromkeys([each.name for each in everything] + [each.distribution for each in everything])
    hint = nearest(name, [*known, *also]) or f" (installed: {', '.join(each.name for each in everything)})"
    return KipukaError(f"no installed plugin, and no distribution with one, is called {name!r}{hint}")


def _about(entry_point: EntryPoint) -> Installed:
    distribution = entry_point.dist
    if distribution is None:
        return Installed(entry_point.name, "(unknown)", "(unknown)")
    return Installed(entry_point.name, distribution.name, distribution.version)


def _normal(distribution: str) -> str:
    return _RUNS.sub("-", distribution).lower()  # PEP 503
