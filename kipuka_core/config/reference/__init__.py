"""The reference, made from the models: a page for people and a JSON schema for editors.

``python -m kipuka_core.config.reference`` writes both into ``docs/``, with the settings of the plugins that are
developed here (:func:`documented_settings`). Others are handed in the same way, as ``{toml path: settings model}``:
``{"auth.otp": OtpSettings}``, and ``{"ca[local]": …}`` for the part of a ``[[ca]]`` of ``backend = "local"``.
"""

from kipuka_core.config.reference.builtin import SISTER_PLUGINS, builtin_settings, documented_settings
from kipuka_core.config.reference.example import example_of_plugin, example_toml
from kipuka_core.config.reference.page import plugin_section, render_page
from kipuka_core.config.reference.schema import render_schema
from kipuka_core.config.reference.write import write_reference

__all__ = [
    "SISTER_PLUGINS",
    "builtin_settings",
    "documented_settings",
    "example_of_plugin",
    "example_toml",
    "plugin_section",
    "render_page",
    "render_schema",
    "write_reference",
]
