"""Bearer tokens of administrators (RFC 6750): read at start, kept as hashes, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from kipuka_core.config.model import OWN_TOKEN_NAME
from kipuka_core.config.sections.server import AdminToken
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.secret_files import permission_problem, read_file, shown
from kipuka_core.model.administrator import Administrator

SHORTEST = 32
"""In characters. What a person can remember, another one can guess."""
_LONGEST = 512
_HOW = "make one with: openssl rand -hex 32"

Token = tuple[Administrator, bytes]
"""An administrator, and the SHA-256 of the token."""


class BearerTokens:
    """Says whose token it is."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def administrator(self, authorization: str) -> Administrator | None:
        """Whose token an ``Authorization`` header holds; None: nobody's, or another scheme."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or len(token) > _LONGEST:
            return None
        digest = sha256(token.strip(" ").encode("utf-8", "surrogatepass")).digest()
        found = None
        for administrator, wanted in self._tokens:  # all of them: the time says nothing of which was near
            if hmac.compare_digest(digest, wanted):
                found = administrator
        return found


def read_bearer_tokens(
    tokens: Sequence[AdminToken],
    environ: Mapping[str, str],
    *,
    strict_permissions: bool,
    warn: Callable[[str], None],
) -> BearerTokens:
    """Read every token of ``Config.admin_tokens``.

    Raises ConfigurationError, without anything of a token, for one that is missing, too short or there twice, and with
    ``strict_permissions`` for a file that others can read, which is a warning otherwise.
    """
    found: dict[bytes, Administrator] = {}
    for index, token in enumerate(token for token in tokens if token.name != OWN_TOKEN_NAME):
        _add(found, token, f"admin.token[{index}]", _value(token, f"admin.token[{index}]", environ))
    for token in (token for token in tokens if token.name == OWN_TOKEN_NAME):
        where = "admin.bearer_token_env" if token.file is None else "admin.bearer_token_file"
        _add(found, token, where, _value(token, where, environ))
    for token in tokens:
        if token.file is not None and (problem := permission_problem(token.file)):
            if strict_permissions:
                raise ConfigurationError(shown(token.file), problem)
            warn(f"{shown(token.file)}: {problem}")
    return BearerTokens([(administrator, digest) for digest, administrator in found.items()])


def _add(found: dict[bytes, Administrator], token: AdminToken, where: str, value: str) -> None:
    if not SHORTEST <= len(value) <= _LONGEST or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(where, f"a token has {SHORTEST} to {_LONGEST} printable characters; {_HOW}")
    digest = sha256(value.encode()).digest()
    if digest in found:
        raise ConfigurationError(where, f"is the same token as that of {found[digest].name}; {_HOW}")
    found[digest] = Administrator(f"token:{token.name}", token.role)


def _value(token: AdminToken, where: str, environ: Mapping[str, str]) -> str:
    if token.file is not None:
        return _first_line(token.file, where)
    value = environ.get(token.env or "", "").strip()
    if not value:
        raise ConfigurationError(where, f"the environment variable {token.env} is not set")
    return value


def _first_line(path: Path, where: str) -> str:
    try:
        line = read_file(path).partition(b"\n")[0].strip()
    except ConfigurationError as error:
        raise ConfigurationError(where, str(error)) from None
    try:
        return line.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigurationError(where, f"{shown(path)}: its first line is no token; {_HOW}") from None
