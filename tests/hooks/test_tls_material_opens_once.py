from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from kipuka_core.assemble import assemble
from kipuka_core.config import load
from kipuka_core.errors import Unavailable
from kipuka_core.listeners import est_tls
from kipuka_core.testing.server import make_deployment


async def test_a_reload_asks_the_tls_material_that_is_open_already(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure('[admin.tls]\ncert = "tls/server.pem"\nkey = "tls/server.key"')
    config = load(deployment.toml, {})
    async with assemble(config) as assembly:
        first = await assembly.open_tls(config.tls_material)
        await est_tls(assembly)
        assert await assembly.open_tls(config.tls_material) is first
        assert await assembly.open_tls(config.admin_tls_material) is not first


async def test_a_flood_of_password_guesses_leaves_tls_material_its_threads(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    users = tmp_path / "users"
    users.write_text("user:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Ng\n")
    users.chmod(0o600)
    deployment.configure('[auth]\norder = ["mtls", "basic"]\n[auth.basic]\nusers_file = "users"')
    config = load(deployment.toml, {})
    release = threading.Event()
    async with assemble(config) as assembly:
        hashing = assembly.authenticators["basic"]._services.run_blocking  # type: ignore[attr-defined]
        guesses = [asyncio.create_task(hashing(release.wait)) for _ in range(200)]
        await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)  # more of them wait than may
        try:
            material = await assembly.open_tls(config.tls_material)
            assert (await material.server_identity()).certificate_file
        finally:
            release.set()
            refused = [error for error in await asyncio.gather(*guesses, return_exceptions=True) if error is not True]
    assert refused
    assert all(isinstance(error, Unavailable) for error in refused)
