"""Making one-time passwords: the token for a person, and the record for the store, which never holds the token."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.record import OneTimePassword

MIN_TOKEN_BITS = 128
MAX_PATTERN_LENGTH = 256


def generate_token(bits: int) -> str:
    """A random token of at least ``bits`` bits: letters, digits, ``-`` and ``_``, so never a colon.

    Raises ValueError below 128 bits.
    """
    if bits < MIN_TOKEN_BITS:
        raise ValueError(f"a token needs at least {MIN_TOKEN_BITS} random bits, not {bits}")
    return secrets.token_urlsafe(-(-bits // 8))


def hash_token(token: str) -> bytes:
    """What the store keeps instead of the token: its SHA-256 (32 bytes)."""
    # Slow, salted hashes protect secrets that can be guessed. A token has at least 128 random bits: nobody can try
    # them all, whatever one try costs, and a plain hash can be looked up in an index.
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def pattern_problem(subject_pattern: str) -> str | None:
    """Say why this is no subject pattern, or None when it is one."""
    if not subject_pattern or len(subject_pattern) > MAX_PATTERN_LENGTH:
        return f"it must have 1 to {MAX_PATTERN_LENGTH} characters"
    if not subject_pattern.isprintable():
        return "it holds a control character or another one that cannot be printed"
    try:
        re.compile(subject_pattern.replace("{id}", "id"))
    except (re.error, RecursionError, OverflowError):
        return "it is not a regular expression"
    return None


def new_one_time_password(
    entity_id: str,
    *,
    now: datetime,
    ttl_seconds: int,
    max_usage: int = 1,
    label: str | None = None,
    token_bits: int = 160,
    subject_pattern: str | None = None,
) -> tuple[OneTimePassword, str]:
    """Make a one-time password: the record for the store, and the token, which is nowhere else.

    ``label`` None is good at every label, ``""`` only at the door without one; every name of the certificate has to
    match ``subject_pattern`` (:class:`~kipuka_core.model.identity.OneTimeCredential`).
    Raises ValueError, saying what to change, for an entity id that no client could send, and for numbers out of range.
    """
    if problem := entity_id_problem(entity_id):
        raise ValueError(f"this entity id cannot be used: {problem}")
    if ttl_seconds < 1:
        raise ValueError("a one-time password must be good for at least one second")
    if max_usage < 1:
        raise ValueError("a one-time password must be good for at least one use")
    if subject_pattern is not None and (problem := pattern_problem(subject_pattern)):
        raise ValueError(f"this subject pattern cannot be used: {problem}")
    token = generate_token(token_bits)
    try:
        expires_at = now + timedelta(seconds=ttl_seconds)
    except OverflowError:
        raise ValueError("a one-time password cannot be good for that long") from None
    record = OneTimePassword(
        id=secrets.token_hex(8),
        token_hash=hash_token(token),
        entity_id=entity_id,
        label=label,
        created_at=now,
        expires_at=expires_at,
        max_usage=max_usage,
        subject_pattern=subject_pattern,
    )
    return record, token
