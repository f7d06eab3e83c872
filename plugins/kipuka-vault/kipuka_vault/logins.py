"""The ways to a token."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import hvac

from kipuka_core import ConfigurationError, Services, read_secret_file
from kipuka_vault.access import Login
from kipuka_vault.settings import VaultSettings


def login_of(settings: VaultSettings, services: Services, where: str) -> Login:
    """What the settings say. Files and variables are read at each login, so that a new secret counts at once.

    Raises ConfigurationError where there is none now.
    """
    mount = settings.auth_mount or settings.auth

    def by_approle(client: hvac.Client) -> Mapping[str, Any]:
        secret_id = _secret(settings, services, where, "secret_id")
        return _auth(client.auth.approle.login(settings.role_id, secret_id, mount_point=mount))

    def by_certificate(client: hvac.Client) -> Mapping[str, Any]:
        return _auth(client.adapter.login(f"/v1/auth/{mount}/login", json={"name": settings.cert_role}))

    def by_token(client: hvac.Client) -> Mapping[str, Any]:
        client.token = _secret(settings, services, where, "token")
        data = client.auth.token.lookup_self()["data"]
        return {"lease_duration": data.get("ttl", 0), "renewable": data.get("renewable", False)}

    if settings.auth == "cert":
        return by_certificate
    if settings.auth == "token":
        _secret(settings, services, where, "token")
        return by_token
    _secret(settings, services, where, "secret_id")
    return by_approle


def _auth(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    auth: Mapping[str, Any] = answer["auth"]
    return auth


def _secret(settings: VaultSettings, services: Services, where: str, name: str) -> str:
    file, variable = getattr(settings, f"{name}_file"), getattr(settings, f"{name}_env")
    if file is not None:
        setting, source = f"{name}_file", str(services.base_dir / file)
        content = read_secret_file(services.base_dir / file, services)
    else:
        setting, source = f"{name}_env", f"the environment variable {variable}"
        content = os.environb.get(os.fsencode(variable), b"")
    try:
        text = content.decode("ascii").strip()
    except ValueError:
        text = ""
    if not text or not text.isprintable():
        raise ConfigurationError(f"{where}.{setting}", f"{source} does not hold a secret in one line")
    return text
