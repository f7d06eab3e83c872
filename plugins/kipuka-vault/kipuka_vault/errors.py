"""What a call of Vault came to, where it was no success."""

from __future__ import annotations

import hvac.exceptions
import requests.exceptions
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

_TEXT_LENGTH = 300


class VaultCallError(Exception):
    """Vault did not do what it was asked for; the text is for the operator and holds no secret."""


class NotReachedError(VaultCallError):
    """Vault has surely not seen the question."""


class NoAnswerError(VaultCallError):
    """Vault may have seen the question, and what it did is not known."""


class RefusedError(VaultCallError):
    """Vault says no. ``is_permission``: to the token."""

    def __init__(self, text: str, *, is_permission: bool = False, is_request: bool = False) -> None:
        super().__init__(text)
        self.is_permission = is_permission
        self.is_request = is_request
        """What was asked for is at fault, not how."""


def of_vault(error: hvac.exceptions.VaultError) -> VaultCallError:
    """An error status."""
    said = "; ".join(map(str, error.errors or ()))[:_TEXT_LENGTH]
    text = "".join(each if each.isprintable() else " " for each in f"{type(error).__name__}: {said}")
    if isinstance(error, hvac.exceptions.VaultDown) and said:
        return NotReachedError(text)  # sealed, in Vault's own words
    if isinstance(error, hvac.exceptions.InternalServerError | hvac.exceptions.BadGateway | hvac.exceptions.VaultDown):
        return NoAnswerError(text)
    if isinstance(error, hvac.exceptions.Forbidden | hvac.exceptions.Unauthorized):
        return RefusedError(text, is_permission=True)
    if isinstance(error, hvac.exceptions.InvalidRequest):
        return RefusedError(text, is_request=True)
    if isinstance(
        error,
        hvac.exceptions.InvalidPath | hvac.exceptions.RateLimitExceeded | hvac.exceptions.VaultNotInitialized,
    ):
        return RefusedError(text)
    return NoAnswerError(text)  # 504 and whatever else a proxy may say


def of_transport(error: requests.exceptions.RequestException) -> VaultCallError:
    """No answer, or none to the end."""
    text = type(error).__name__
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.SSLError):
        return NotReachedError(f"{text}: {reason}" if reason else text)
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return NotReachedError(f"{text}: the connection was not made")
    return NoAnswerError(text)
