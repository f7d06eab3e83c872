"""The console: pages for people on the admin listener, under ``/console/``.

Not under ``/admin/``, whose paths are those of the API and of plugins. The pages use what the routes of the API use,
:mod:`kipuka_core.domain.admin` and the directories of :mod:`kipuka_core.edges.http`; here are only forms and HTML.
"""

from kipuka_core.edges.http.console.app import console_app
from kipuka_core.edges.http.console.beside import WithConsole
from kipuka_core.edges.http.console.services import ConsoleServices

__all__ = ["ConsoleServices", "WithConsole", "console_app"]
