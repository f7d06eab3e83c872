"""The installed plugins: one entry point for each row of the table, whose import is the mistake where that is one."""

from __future__ import annotations

from pathlib import Path

from tests.kit.careless import authenticators, cas, hooks, openings, others, policies
from tests.kit.careless.sound import (
    SoundAuthenticator,
    SoundCa,
    SoundKeyStore,
    SoundPolicy,
    SoundSink,
)
from tests.kit.careless.table import HOOKS, Careless, Unseen, with_hook

ROWS: list[Careless] = [
    *hooks.ROWS,
    *openings.ROWS,
    *authenticators.ROWS,
    *policies.ROWS,
    *cas.ROWS,
    *others.ROWS,
]
BY_NAME = {row.name: row for row in ROWS}
SOUND = [
    Careless(mistake="sound", kind=kind, port=port, server=Unseen(because="there is nothing to see"))
    for kind, port in (
        ("authenticator", SoundAuthenticator),
        ("policy", SoundPolicy),
        ("ca_backend", SoundCa),
        ("key_store", SoundKeyStore),
        ("event_sink", SoundSink),
    )
]
DISTRIBUTION = "kipuka-careless"


def __getattr__(name: str) -> object:
    """What the entry point of this name brings."""
    if name == "sound":
        return with_hook(HOOKS["authenticator"], lambda: [SOUND[0].made_provider()])
    if name in BY_NAME:
        return BY_NAME[name].made_plugin()
    raise AttributeError(name)


def install(directory: Path) -> None:
    """Make the distribution, with an entry point for each row; it is installed where the directory is on the path."""
    info = directory / f"{DISTRIBUTION.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"{name} = {__name__}:{name}\n" for name in ("sound", *BY_NAME)]
    (info / "entry_points.txt").write_text(f"[kipuka.plugins]\n{''.join(lines)}", encoding="utf-8")
