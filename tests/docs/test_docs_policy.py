"""The policy in README keeps the contract of policies."""

from __future__ import annotations

from typing import Any

from kipuka_core import Provider
from kipuka_core.testing.contracts.policy import PolicyContract
from tests.docs.blocks import blocks_of


def provider_of_readme() -> Provider[Any]:
    (block,) = (block for block in blocks_of("README.md") if block.file_name == "plant.py")
    namespace: dict[str, Any] = {"__name__": "plant"}
    exec(compile(block.text, "README.md", "exec"), namespace)
    (provider,) = namespace["kipuka_policies"]()
    assert isinstance(provider, Provider)
    return provider


class TestThePolicyInReadmeKeepsTheContract(PolicyContract):
    provider = provider_of_readme()
