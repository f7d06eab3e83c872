"""One suite per port: what every plugin for it has to do. Subclass the suite in a test module and say what to test.

The suites use pytest and pytest-asyncio (in either mode).
"""

import pytest

_SUITES = (
    "asking",
    "authenticator",
    "ca_backend",
    "event_sink",
    "key_store",
    "policy",
    "port",
    "settings",
    "tls_material",
)
# Before the suites are imported, so that a failed assertion shows the values that differ.
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))
