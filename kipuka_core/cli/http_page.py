"""The generated page ``docs/http-api.md``: the paths of all three listeners, from what serves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from kipuka_core.admin_work import work_routes
from kipuka_core.config.sections.enrollment import Est
from kipuka_core.domain.admin.administration import Administration
from kipuka_core.edges.http import public
from kipuka_core.edges.http.admin_openapi import PAGES, openapi
from kipuka_core.edges.http.est import CERTS_ONLY, METHODS, NOT_OFFERED
from kipuka_core.model.request import Operation

_BASE = Est.model_fields["base_path"].default
_PKCS10 = "`application/pkcs10`"
_EST: Mapping[Operation, tuple[str, str, str]] = {
    Operation.CACERTS: ("-", f"`{CERTS_ONLY}`", "The CA certificates (RFC 7030 4.1)"),
    Operation.CSRATTRS: ("-", "`application/csrattrs`, or 204", "What a CSR should have (RFC 7030 4.5)"),
    Operation.SIMPLEENROLL: (_PKCS10, f"`{CERTS_ONLY}`, or 202", "A certificate (RFC 7030 4.2.1)"),
    Operation.SIMPLEREENROLL: (_PKCS10, f"`{CERTS_ONLY}`, or 202", "Its renewal (RFC 7030 4.2.2)"),
    Operation.SERVERKEYGEN: (_PKCS10, "404", "A certificate and its key (RFC 7030 4.4)"),
    Operation.FULLCMC: ("-", "404", "Full CMC (RFC 7030 4.3)"),
}
_PUBLIC = (
    ("/crl/ID.crl", public.READ_METHODS, public.CRL_TYPE, "The CRL of the CA with this `id`"),
    ("/ca/ID.cer", public.READ_METHODS, public.CERTIFICATE_TYPE, "Its certificate"),
    ("/ocsp", public.OCSP_METHODS, public.OCSP_RESPONSE_TYPE, "OCSP: by POST, or by GET with the request behind it"),
)
_ADMIN = """\
JSON, in and out. `GET /admin/openapi.json` has this section as an OpenAPI 3.1 document. Every GET is for viewers and
operators, what changes something for operators alone, and what is *open* for everybody. Every error is an
[ErrorBody](#errorbody). [The admin API](admin-api.md) tells how to use it. The listener has `/admin/metrics`
([Metrics](metrics.md)) and `/admin/console/` ([The console](console.md)) besides.
"""


def http_text(note: str) -> str:
    """The page; ``note`` says what it is made from."""
    document = _document()
    lines = ["# HTTP", "", note, *_est(), *_public(), "## The admin listener", "", _ADMIN]
    lines += ["| | path | who | |", "|---|---|---|---|", *_overview(document["paths"]), ""]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += _operation(method, path, operation)
    lines += ["## Values of the admin listener", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _schema(name, schema)
    return "\n".join(lines)


def _document() -> dict[str, Any]:
    nothing = cast("Any", None)  # no request comes, so that no handler asks what is behind it
    work = Administration(store=nothing, certificates=nothing, otps=nothing, lockouts=nothing, requests=nothing)
    operations = [*PAGES, *(operation for routes in work_routes(work) for operation in routes.operations)]
    return openapi(operations, "")


def _est() -> Iterator[str]:
    yield from ("## The EST listener", "")
    yield f"Each path is there under `{_BASE}/` and, for a label, under `{_BASE}/LABEL/`;"
    yield "`[est] base_path` changes the beginning. Bodies are base64. [Protocol](protocol.md) tells what of the RFCs"
    yield from (
        "is met, [Refusals](errors.md) lists what can be refused.",
        "",
        "| path | methods | body | answer | |",
        "|---|---|---|---|---|",
    )
    for operation, methods in METHODS.items():
        body, answer, about = _EST[operation]
        offered = f"{about}: not offered" if operation in NOT_OFFERED else about
        yield f"| `{operation}` | {', '.join(methods)} | {body} | {answer} | {offered} |"
    yield ""


def _public() -> Iterator[str]:
    yield from ("## The plain HTTP listener", "")
    yield "With `[server] http_listen`: what pointers in certificates lead to. [Revocation](revocation.md) tells of it."
    yield from ("", "| path | methods | answer | |", "|---|---|---|---|")
    for path, methods, answer, about in _PUBLIC:
        yield f"| `{path}` | {', '.join(methods)} | `{answer}` | {about} |"
    yield ""


def _overview(paths: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            who = "open" if not operation["security"] else "viewer" if method == "get" else "operator"
            yield f"| {method.upper()} | `{path}` | {who} | {operation['summary']} |"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### `{method.upper()} {path}`", "", f"{operation['summary']}.")
    if "description" in operation:
        yield operation["description"]
    yield ""
    parameters = [each for each in operation["parameters"] if each["in"] == "query"]
    if parameters:
        yield from ("| query | type | default | |", "|---|---|---|---|")
        for each in parameters:
            yield _row(each["name"], each["schema"], each.get("description", ""), is_required=each["required"])
        yield ""
    if "requestBody" in operation:
        yield from (f"Body: {_content(operation['requestBody']['content'])}.", "")
    refusals = []
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if _content(content) == _link("ErrorBody"):
            refusals.append(status)
            continue
        about = response["description"].rstrip(".")
        said = [each for each in (about if about != "It" else "", _content(content)) if each]
        yield f"* {status}: {', '.join(said)}."
        yield from (f"  * `{name}`: {header['description']}" for name, header in response.get("headers", {}).items())
    if refusals:
        yield f"* {', '.join(refusals)}: refused."
    yield ""


def _content(content: Mapping[str, Any]) -> str:
    shown = []
    for media_type, each in content.items():
        shown.append(_type(each["schema"]) if media_type == "application/json" else f"`{media_type}`")
    return " or ".join(shown)


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "", schema.get("description", "").replace("``", "`"), "")
    if "enum" in schema:
        yield from (f"One of {_type(schema)}.", "")
    if "properties" in schema:
        yield from ("| name | type | default | |", "|---|---|---|---|")
        for field, each in schema["properties"].items():
            is_required = field in schema.get("required", ())
            yield _row(field, each, each.get("description", ""), is_required=is_required)
        yield ""


def _row(name: str, schema: Mapping[str, Any], about: str, *, is_required: bool) -> str:
    default = schema.get("default")
    shown = "required" if is_required else "-" if default is None else f"`{str(default).lower()}`"
    if isinstance(default, str):
        shown = f"`{default}`"
    cells = (f"`{name}`", _type(schema), shown, about)
    return ("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |").replace("|  |", "| |")


def _type(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "date-time":
        return "time"
    match schema:
        case {"$ref": str(reference)}:
            return _link(reference.rpartition("/")[2])
        case {"enum": list(values)}:
            return ", ".join(f"`{each}`" for each in values)
        case {"anyOf": list(kinds)}:
            return " or ".join(map(_type, kinds))
        case {"type": "array", "items": dict(items)}:
            return f"list of {_type(items)}"
        case _:
            return str(schema.get("type", "any"))


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"
