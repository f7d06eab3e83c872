"""From ``[[ca_group]]`` tables to groups."""

from __future__ import annotations

from kipuka_core.config import Config
from kipuka_core.domain.ca_groups import CaGroup, Circuit


def ca_groups(config: Config) -> dict[str, CaGroup]:
    """By id; each with circuits of its own, all closed."""
    return {
        table.id: CaGroup(
            id=table.id,
            members=table.members,
            strategy=table.strategy,
            weights=table.weights,
            circuits={each: Circuit(table.failures, table.cool_down) for each in table.members},
        )
        for table in config.ca_group
    }
