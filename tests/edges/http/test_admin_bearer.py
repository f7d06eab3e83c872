"""Bearer tokens: whose they are, and what stops the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kipuka_core.config.sections.server import AdminToken
from kipuka_core.edges.http.admin_bearer import BearerTokens, read_bearer_tokens
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.administrator import Administrator, Role

ONE, TWO = "1" * 32, "two-" * 8
ENVIRON = {"ONE": ONE, "TWO": f" {TWO}\n", "SHORT": "1" * 31, "EMPTY": "", "SPACED": f"{ONE} {TWO}", "UMLAUT": "ä" * 40}


def token(name: str, role: str = "operator", **where: Any) -> AdminToken:
    return AdminToken.model_validate({"name": name, "role": role, **where})


def read(*tokens: AdminToken, strict: bool = False, warned: list[str] | None = None) -> BearerTokens:
    heard: list[str] = [] if warned is None else warned
    return read_bearer_tokens(tokens, ENVIRON, strict_permissions=strict, warn=heard.append)


def refused(*tokens: AdminToken, strict: bool = False) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(*tokens, strict=strict)
    text = str(caught.value)
    for secret in (value.strip() for value in ENVIRON.values() if value.strip()):
        assert secret not in text
        assert secret not in repr(caught.value.__cause__)
    return text


def test_a_token_says_who_it_is_and_what_it_may() -> None:
    tokens = read(token("operator", env="ONE"), token("eye", "viewer", env="TWO"))
    assert tokens.administrator(f"Bearer {ONE}") == Administrator("token:operator", Role.OPERATOR)
    assert tokens.administrator(f"bearer  {TWO}") == Administrator("token:eye", Role.VIEWER)
    wrong = (
        ONE,
        f"Bearer {ONE}x",
        f"Bearer {ONE[:-1]}",
        "Bearer ",
        "Bearer",
        "",
        f"Basic {ONE}",
        f"Bearer {'9' * 9999}",
    )
    for header in wrong:
        assert tokens.administrator(header) is None
    assert not BearerTokens(())
    assert tokens


def test_no_token_is_shown_by_anything() -> None:
    tokens = read(token("operator", env="ONE"))
    assert ONE not in repr(tokens) + repr(vars(tokens))


@pytest.mark.parametrize("content", [f"{TWO}\n", TWO, f"{TWO}\r\nnot this\n", f"{TWO}\n\xff"])
def test_a_file_holds_it_in_its_first_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content, encoding="latin-1")
    file.chmod(0o600)
    assert read(token("a", file=file)).administrator(f"Bearer {TWO}") == Administrator("token:a", Role.OPERATOR)


def test_a_file_that_others_can_read_is_a_warning_or_an_error(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TWO)
    file.chmod(0o640)
    warned: list[str] = []
    assert read(token("a", file=file), warned=warned)
    assert warned == [f"{file}: mode 0640 lets others use it; run: chmod 0600 {file}"]
    assert "chmod 0600" in refused(token("a", file=file), strict=True)


def test_what_stops_the_start_names_the_key_and_says_what_to_do(tmp_path: Path) -> None:
    own = "operator"
    assert refused(token(own, env="NONE")) == ("admin.bearer_token_env: the environment variable NONE is not set")
    assert refused(token("a", env="EMPTY")).startswith("admin.token[0]: the environment variable EMPTY")
    for variable in ("SHORT", "SPACED", "UMLAUT"):
        text = refused(token("b", env="ONE"), token("a", env=variable))
        assert text.startswith("admin.token[1]: a token has 32 to 512")
        assert "openssl rand -hex 32" in text
    assert "the same token as that of token:a" in refused(token("a", env="ONE"), token("b", env="ONE"))
    nowhere = refused(token(own, file=tmp_path / "none"))
    assert nowhere == f"admin.bearer_token_file: {tmp_path / 'none'}: cannot be read: No such file or directory"
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe" * 20)
    assert "its first line is no token" in refused(token("a", file=binary))
