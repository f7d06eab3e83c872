"""One server for the tests that do not disturb one another, with a door for each thing that a label can decide."""

from __future__ import annotations

from collections.abc import Iterator

import argon2
import bcrypt
import pytest

from tests.system.system_kit import System, deploy, serving

USERS = {"argon-user": "päss:word", "bcrypt-user": "correct horse"}
DOORS = """
[auth]
order = ["mtls", "otp", "basic"]
[auth.basic]
users_file = "users"
[[est.label]]
name = "factory"
[[est.label]]
name = "a"
subject_binding = "any"
[[est.label]]
name = "b"
subject_binding = "any"
[[est.label]]
name = "accepts-a"
subject_binding = "any"
accept_from = ["a"]
[[est.label]]
name = "carry"
san_carry_over = true
[[est.label]]
name = "rename"
allow_name_change = true
subject_binding = "any"
[[est.label]]
name = "migrate"
renew_from = "trusted"
[[est.label]]
name = "bound"
channel_binding = "required"
[[est.label]]
name = "unbound"
channel_binding = "off"
[[est.label]]
name = "bits"
ext_key_usage = ["clientAuth", "serverAuth"]
allowed_key_types = ["rsa2048", "ecdsa256", "ecdsa384"]
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("doors") / "deployment"
    deployment = deploy(directory, DOORS)
    hashes = {
        "argon-user": argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(USERS["argon-user"]),
        "bcrypt-user": bcrypt.hashpw(USERS["bcrypt-user"].encode(), bcrypt.gensalt(4)).decode(),
    }
    users = directory / "users"
    users.write_text("".join(f"{user}:{hashed}\n" for user, hashed in hashes.items()), encoding="utf-8")
    users.chmod(0o600)
    with serving(deployment) as running:
        yield running
