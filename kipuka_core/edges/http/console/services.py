"""What the console is made of: the same objects that the routes of the admin API work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kipuka_core.domain.admin.administration import Administration
from kipuka_core.edges.http.admin_cas import CaDirectory
from kipuka_core.edges.http.admin_gate import AdminGate
from kipuka_core.edges.http.admin_health import Health
from kipuka_core.edges.http.admin_plugins import PluginDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleServices:
    """Given once, when the admin listener starts."""

    administration: Administration
    cas: CaDirectory
    plugins: PluginDirectory
    health: Health
    gate: AdminGate
    clock: Callable[[], datetime]
