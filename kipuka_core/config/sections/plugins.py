"""The tables that choose and set up plugins, and those of the store and of the audit trail."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from kipuka_core.config.section import OpenSection, Section
from kipuka_core.config.values import AuthOrder, CaId, Count, ProviderName, Switch
from kipuka_core.hooks.durations import Duration
from kipuka_core.model.ca_group import Strategy

_WEEK_SECONDS = 7 * 86_400
PluginSettings = dict[str, Any]


class Ca(OpenSection):
    """A certification authority. The rest of the table is the backend's settings.

    Without any `[[ca]]` the embedded CA under `state_dir` serves, which `kipuka init` makes.
    """

    id: CaId = Field(description="What labels and the admin API call it.", examples=["default"])
    backend: ProviderName = Field(default="local", description="A CA backend provider.")
    is_default: Switch = Field(
        default=False,
        description="The one for labels that name none, and for the door without a label. If none says so: the first.",
    )
    give_up_after: Duration = Field(
        default=_WEEK_SECONDS,
        description=(
            "An external CA that has not decided a request for so long is not asked about it any more: the request is "
            "refused, or held for a person where the CA may have issued."
        ),
    )


class CaGroup(Section):
    """Several CAs for one purpose. A label names it as its `ca`; a member that is away is left alone for a while.

    A request goes to a second member only when the first has surely not issued.
    """

    id: CaId = Field(description="What labels call it. No `[[ca]]` has the same.", examples=["issuing"])
    members: Annotated[tuple[CaId, ...], Field(min_length=1)] = Field(
        description="The `id` of each `[[ca]]`, in order.", examples=[["first", "second"]]
    )
    strategy: Strategy = Field(
        default=Strategy.ORDERED,
        description="`ordered`: the first that is not away. `round-robin`: in turn. `weighted`: in turn, by `weights`.",
    )
    weights: dict[CaId, Annotated[int, Field(ge=1, le=1000)]] = Field(
        default={}, description="For `weighted`: how often a member is asked first; 1 where it is not named."
    )
    failures: Count = Field(default=3, description="A member that has failed so often in a row is away.")
    cool_down: Duration = Field(
        default=30, description="So long a member that is away is left alone; then one request tries it."
    )


class ProviderTable(OpenSection):
    """Settings of one provider, under the name that `order` uses."""

    use: ProviderName | None = Field(
        default=None, description="The provider. Absent: the table's own name.", examples=["otp"]
    )


class _Providers(OpenSection):
    """A table whose tables are settings of providers."""

    __pydantic_extra__: dict[str, ProviderTable] = Field(init=False)
    extra_tables: ClassVar[type[Section] | None] = ProviderTable

    @property
    def tables(self) -> dict[str, ProviderTable]:
        """The settings by name: ``[auth.NAME]``, ``[policy.NAME]``."""
        return dict(self.__pydantic_extra__)


class Auth(_Providers):
    """Who may ask. The first authenticator that knows the client decides."""

    order: AuthOrder = Field(
        default=(("mtls",), ("otp",)),
        description='Names; an inner list means all of them: `["otp", ["mtls", "basic"]]`. An empty list is an error.',
    )


class Policy(_Providers):
    """What may be asked. Every policy is asked; a denial outweighs waiting, waiting outweighs consent.

    An `[enrollment]` key whose policy is not in the order is an error.
    """

    order: Annotated[tuple[ProviderName, ...], Field(min_length=1)] = Field(
        default=("keys", "names", "extensions", "validity"),
        description=(
            "Names, of every policy that is asked: a list of your own drops the built-in ones that it does not name. "
            "An empty list is an error."
        ),
    )


class Plugins(Section):
    """Plugins beyond the built-in ones. Installed is not enabled."""

    enable: tuple[ProviderName, ...] = Field(
        default=(), description="Names of `kipuka.plugins` entry points of installed distributions.", examples=[["hsm"]]
    )
    timeout: Duration = Field(default=10, description="For any call into a plugin; a late answer is a refusal.")


def _database_url(url: str) -> str:
    # The URL may hold a password: no message repeats it.
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"sqlite", "postgresql"}:
        raise ValueError('must begin with "sqlite:///" or "postgresql://"')
    if scheme == "sqlite" and (not rest.startswith("/") or rest in {"/", "/:memory:"}):
        raise ValueError('must name a file, as in "sqlite:////var/lib/kipuka/kipuka.db"')
    return url


class Db(Section):
    """The store: certificates, one-time passwords, requests, events."""

    url: Annotated[str, AfterValidator(_database_url)] | None = Field(
        default=None,
        repr=False,
        description=(
            "`sqlite:///…` (a relative path is relative to the file) or `postgresql://…`. Absent: `kipuka.db` under "
            "`state_dir`."
        ),
        examples=["sqlite:////var/lib/kipuka/kipuka.db"],
    )


class AuditSink(OpenSection):
    """Where audit events go besides the store. The rest of the table is the sink's settings.

    Without any `[[audit.sink]]` events go to a `jsonl` file under `state_dir`.
    """

    use: ProviderName = Field(default="jsonl", description="An event sink provider: `jsonl`, or a plugin's.")
    required: Switch = Field(default=True, description="When this sink fails, nothing is issued.")


class Audit(Section):
    """The audit trail."""

    anonymous_in_full: Count = Field(
        default=10,
        description=(
            "How many refusals of one address and kind in a minute are events of their own when nobody is known to "
            "have asked; those after them are one event with a count. Refusals of a known client always are events."
        ),
    )
    sink: tuple[AuditSink, ...] = Field(default=(AuditSink(),), description="Event sinks.")
