from __future__ import annotations

from pathlib import Path

from kipuka_core.assemble import assemble
from kipuka_core.config import load
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
