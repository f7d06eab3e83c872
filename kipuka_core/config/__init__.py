"""``kipuka.toml``: read, checked, explained. The authority on names, types and defaults is the models in here."""

from kipuka_core.config.failures import ConfigurationErrors
from kipuka_core.config.labels import labels
from kipuka_core.config.load import load, parse, validate_table
from kipuka_core.config.model import EMBEDDED_CA_ID, Config, embedded_ca
from kipuka_core.config.notices import warnings
from kipuka_core.config.section import PluginTable
from kipuka_core.config.template import default_toml
from kipuka_core.config.uses import used_tables

__all__ = [
    "EMBEDDED_CA_ID",
    "Config",
    "ConfigurationErrors",
    "PluginTable",
    "default_toml",
    "embedded_ca",
    "labels",
    "load",
    "parse",
    "used_tables",
    "validate_table",
    "warnings",
]
