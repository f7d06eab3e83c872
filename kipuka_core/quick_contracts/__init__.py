"""The contracts of plugins in short: what can be seen in a second, without pytest and without changing anything.

``kipuka plugins check`` runs them; the suites in :mod:`kipuka_core.testing.contracts` ask much more.
"""

from kipuka_core.quick_contracts.finding import Finding, Level
from kipuka_core.quick_contracts.provider import Trial, check_provider
from kipuka_core.quick_contracts.settings import check_settings_model

__all__ = ["Finding", "Level", "Trial", "check_provider", "check_settings_model"]
