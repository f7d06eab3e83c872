"""The reference, made from the models: a page for people and a JSON schema for editors.

``python -m kipuka_core.config.reference`` writes both into ``docs/``. Built-in plugins bring their own settings, which
this room does not know: callers hand them in as ``{toml path: settings model}``, such as ``{"auth.otp": OtpSettings}``,
and ``{"ca[local]": …}`` for the part of a ``[[ca]]`` that belongs to ``backend = "local"``.
"""

from kipuka_core.config.reference.example import example_toml
from kipuka_core.config.reference.page import render_page
from kipuka_core.config.reference.schema import render_schema
from kipuka_core.config.reference.write import write_reference

__all__ = ["example_toml", "render_page", "render_schema", "write_reference"]
