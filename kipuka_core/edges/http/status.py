"""The only table from error to HTTP status."""

from __future__ import annotations

from kipuka_core import errors

_STATUS: dict[type[errors.RequestRefused], int] = {
    errors.Malformed: 400,
    errors.CsrRefused: 400,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.BodyTimeout: 408,
    errors.Conflict: 409,
    errors.BodyTooLarge: 413,
    errors.WrongMediaType: 415,
    errors.InvalidInput: 422,
    errors.LockedOut: 429,
    errors.PluginFailed: 500,
    errors.PostcheckFailed: 500,
    errors.Unavailable: 503,
    errors.InsecureTransport: 503,
    errors.RequestRefused: 403,
}


def status_of(refusal: errors.RequestRefused) -> int:
    """The HTTP status of a refusal; an error without an entry has that of its nearest ancestor."""
    return next(_STATUS[kind] for kind in type(refusal).__mro__ if kind in _STATUS)
