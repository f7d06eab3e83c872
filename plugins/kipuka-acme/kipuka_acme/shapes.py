"""What an ACME CA says, as far as kipuka needs it (RFC 8555 7.1); whatever else is in an answer is passed over."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[\x21-\x7e]+$", max_length=1500)]
"""Nothing of ACME is done without TLS (RFC 8555 6.1)."""
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", min_length=16, max_length=256)]
"""base64url (RFC 8555 8.1): also as the name of a file there is nothing in it."""


class Said(BaseModel):
    """Base of all of them."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Located(Said):
    """A ``Location`` header: what was made is there."""

    url: HttpsUrl


class ProblemDocument(Said):
    """RFC 7807, with RFC 8555 6.7.1's subproblems."""

    type: str = ""
    detail: str = ""
    subproblems: tuple[dict[str, Any], ...] = ()


class DirectoryMeta(Said):
    """RFC 8555 7.1.1, and the names of profiles."""

    terms_of_service: str | None = Field(default=None, alias="termsOfService")
    external_account_required: bool = Field(default=False, alias="externalAccountRequired")
    profiles: dict[str, Any] = {}


class Directory(Said):
    """RFC 8555 7.1.1; ``renewalInfo`` is RFC 9773's."""

    new_nonce: HttpsUrl = Field(alias="newNonce")
    new_account: HttpsUrl = Field(alias="newAccount")
    new_order: HttpsUrl = Field(alias="newOrder")
    revoke_cert: HttpsUrl = Field(alias="revokeCert")
    renewal_info: str | None = Field(default=None, alias="renewalInfo")
    meta: DirectoryMeta = DirectoryMeta()


class Identifier(Said):
    """A name (RFC 8555 9.7.7: ``dns``; RFC 8738: ``ip``)."""

    type: str
    value: str


class Order(Said):
    """RFC 8555 7.1.3."""

    status: Literal["pending", "ready", "processing", "valid", "invalid"]
    authorizations: tuple[HttpsUrl, ...] = ()
    finalize: HttpsUrl
    certificate: HttpsUrl | None = None
    error: ProblemDocument | None = None


class Challenge(Said):
    """RFC 8555 7.1.5 and 8. ``token`` is empty in kinds of challenges that have none, or another one."""

    type: str
    url: HttpsUrl
    status: str = "pending"
    token: Token | Literal[""] = ""
    error: ProblemDocument | None = None


class Authorization(Said):
    """RFC 8555 7.1.4."""

    identifier: Identifier
    status: Literal["pending", "valid", "invalid", "deactivated", "expired", "revoked"]
    challenges: tuple[Challenge, ...] = ()
    wildcard: bool = False
