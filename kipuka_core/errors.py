"""The error tree of kipuka.

Domain, wire and plugins raise these; none of them knows an HTTP status. The only table from error to status is
``kipuka_core.edges.http.status``. The text of a :class:`RequestRefused` is shown to the client, so it says what to
change and holds nothing internal and no secret.
"""

from __future__ import annotations


class KipukaError(Exception):
    """Root of every error that kipuka raises on purpose."""


class ConfigurationError(KipukaError):
    """The server cannot start as configured.

    ``where`` is the TOML path, the file or the distribution that has to change; ``problem`` is one line.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)
        self.where = where
        self.problem = problem


class RequestRefused(KipukaError):
    """A request that gets no certificate.

    ``code`` is the stable snake_case word that goes into the event; ``reason`` is the sentence for the client.
    ``actor`` and ``authenticator`` say who was refused, as far as the road had got; they are for the event.
    """

    code = "refused"
    actor = ""
    authenticator = ""

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        if code is not None:
            self.code = code


class Malformed(RequestRefused):
    """The bytes are not what the operation takes (base64, DER, PKCS#10)."""

    code = "malformed_request"


class CsrRefused(RequestRefused):
    """What the CSR *is* cannot be certified here: key, algorithm, extension, proof of possession, binding."""

    code = "csr_refused"


class NotAuthenticated(RequestRefused):
    """No authenticator believes the client (RFC 7030 3.2.3). The answer carries a challenge."""

    code = "not_authenticated"


class NotAllowed(RequestRefused):
    """The client is known, and what it asks for is not for it to have (a name, a label)."""

    code = "not_allowed"


class NotFound(RequestRefused):
    """No such path, label or operation (RFC 7030 3.2.2)."""

    code = "not_found"


class Conflict(RequestRefused):
    """What an administrator asks for does not fit what is there now."""

    code = "conflict"


class InvalidInput(RequestRefused):
    """A value in an administrator's request is not possible; the reason names the field."""

    code = "invalid_request"


class MethodNotAllowed(RequestRefused):
    """The operation exists and takes another method; ``allow`` lists what it takes."""

    code = "method_not_allowed"

    def __init__(self, reason: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.allow = allow


class BodyTooLarge(RequestRefused):
    """The request body is longer than ``[server] max_body_size``."""

    code = "body_too_large"


class BodyTimeout(RequestRefused):
    """The request body did not arrive within ``[server] body_timeout``."""

    code = "body_timeout"


class WrongMediaType(RequestRefused):
    """The request's Content-Type is clearly another one than the operation's."""

    code = "wrong_media_type"


class LockedOut(RequestRefused):
    """Too many wrong secrets from this address; ``retry_after_seconds`` says when to come back."""

    code = "locked_out"

    def __init__(self, reason: str, *, retry_after_seconds: int) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(RequestRefused):
    """Something that the request needs is away or overloaded; the same request may succeed later."""

    code = "unavailable"

    def __init__(self, reason: str, *, retry_after_seconds: int = 30, code: str | None = None) -> None:
        super().__init__(reason, code=code)
        self.retry_after_seconds = retry_after_seconds


class CaAway(Unavailable):
    """A CA is away and has surely not issued: another one may be asked. Made by the core of a backend's Unavailable."""


class OutcomeUnknown(Unavailable):
    """A CA was asked, and whether it has issued is not known: no answer, or one that makes no sense.

    The request stays on record and is not sent again; :meth:`CaBackend.poll` or a person settles it.
    """

    code = "ca_outcome_unknown"


class NotIssued(RequestRefused):
    """A CA has surely not issued what it was asked for, and will not: the same may be asked anew."""

    code = "not_issued"


class InsecureTransport(RequestRefused):
    """The connection has no TLS, or one whose client certificate the application cannot see."""

    code = "insecure_transport"


class PluginFailed(RequestRefused):
    """A plugin crashed, took too long or returned the wrong type: a refusal (fail closed).

    ``plugin`` and ``detail`` are for the log. The client learns neither.
    """

    code = "plugin_failed"

    def __init__(self, plugin: str, detail: str) -> None:
        super().__init__("the server could not process this request")
        self.plugin = plugin
        self.detail = detail


class PostcheckFailed(RequestRefused):
    """The CA returned something other than the approved template; ``plugin`` and ``detail`` are for the log."""

    code = "postcheck_failed"
    plugin = ""
    """The CA and its backend, where the road knows them."""

    def __init__(self, detail: str) -> None:
        super().__init__("the certification authority returned a certificate that was not approved")
        self.detail = detail


def detail_of(error: Exception) -> str:
    """What the log and the operator are told; of a refusal also what the client may not know."""
    return getattr(error, "detail", "") or str(error)


class WrongSecret(KipukaError):
    """An authenticator knows the name and the secret is wrong. Never shown to a client as such.

    ``entity_id`` is the name that was tried; it is what the lockout counts, together with the source address.
    """

    def __init__(self, entity_id: str) -> None:
        super().__init__("wrong secret")
        self.entity_id = entity_id


class StoreUnavailable(KipukaError):
    """The database did not answer; nothing was recorded."""
