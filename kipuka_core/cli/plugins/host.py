"""A server for a plugin to be tried in: everything open, nothing listening, nothing changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quart import Blueprint, Quart

from kipuka_core.administration import administration
from kipuka_core.assemble import Assembly, utc_now
from kipuka_core.cli.check import dry_assembly
from kipuka_core.cli.init import prepare
from kipuka_core.cli.plugins.configured import with_plugin
from kipuka_core.config import Config, load
from kipuka_core.errors import ConfigurationError
from kipuka_core.listeners import admin_material
from kipuka_core.live_tls import LiveTls
from kipuka_core.model.key_type import KeyType


@asynccontextmanager
async def host(config: Config | None, plugin: str) -> AsyncIterator[Assembly]:
    """The server of a configuration in a dry run; None: of a fresh one, as ``kipuka init`` makes it.

    Raises ConfigurationError.
    """
    if config is not None:
        async with dry_assembly(with_plugin(config, plugin)) as assembly:
            yield assembly
        return
    with TemporaryDirectory(prefix="kipuka-") as name:
        directory = Path(name)
        prepare(
            directory,
            hosts=("localhost",),
            organization="Kipuka",
            key_type=KeyType.ECDSA256,
            listen="127.0.0.1:8443",
        )
        fresh: Mapping[str, str] = {}  # no KIPUKA_STATE_DIR: nothing of this machine's
        async with dry_assembly(with_plugin(load(directory / "kipuka.toml", fresh), plugin)) as assembly:
            yield assembly


def routes_of(blueprints: Sequence[Any]) -> Iterator[str]:
    """``GET /admin/plants``: what each blueprint would answer, where it would be. Raises ConfigurationError."""
    for blueprint in blueprints:
        if not isinstance(blueprint, Blueprint):
            raise ConfigurationError("", f"kipuka_admin_routes returned a {type(blueprint).__name__}, not a Blueprint")
        app = Quart("kipuka_core", static_folder=None)
        app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        app.register_blueprint(blueprint, url_prefix=blueprint.url_prefix or f"/admin/{blueprint.name}")
        for rule in app.url_map.iter_rules():
            methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
            yield f"{'/'.join(methods)} {rule.rule}"


async def check_routes(assembly: Assembly) -> None:
    """Make the admin application with what all plugins add. Raises ConfigurationError for a path that is taken."""
    administration(assembly, await LiveTls.open(assembly, admin_material, clock=utc_now))
