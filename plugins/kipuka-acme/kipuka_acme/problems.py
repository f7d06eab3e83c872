"""What an ACME CA refuses with (RFC 8555 6.7), and what that means to kipuka."""

from __future__ import annotations

from kipuka_acme.shapes import ProblemDocument
from kipuka_core import CsrRefused, NotAllowed, RequestRefused, Unavailable

_URN = "urn:ietf:params:acme:error:"
_LONGEST_TEXT = 300
_OF_THE_CSR = frozenset({"badCSR", "badPublicKey", "badSignatureAlgorithm"})
_OF_THE_ACCOUNT = frozenset(
    {"accountDoesNotExist", "externalAccountRequired", "invalidContact", "unsupportedContact", "userActionRequired"}
)
_FOR_LATER = frozenset({"badNonce", "rateLimited", "serverInternal", "orderNotReady"})


class Problem(Exception):
    """The CA's own words. ``kind`` is the type without its URN; ``retry_after_seconds`` what the answer said."""

    def __init__(self, document: ProblemDocument, *, status: int = 0, retry_after_seconds: int | None = None) -> None:
        self.kind = document.type.removeprefix(_URN)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.text = text_of(document)
        super().__init__(self.text)

    @property
    def is_rate_limit(self) -> bool:
        """RFC 8555 6.6; also as 429 alone, from what stands before a CA."""
        return self.kind == "rateLimited" or self.status == 429

    @property
    def is_of_the_account(self) -> bool:
        """Whether it is this server that the CA does not want, whatever it asks for."""
        return self.kind in _OF_THE_ACCOUNT

    @property
    def is_refusal(self) -> bool:
        """Whether the CA has decided something about the request, and would decide the same again."""
        late = self.kind in _FOR_LATER or self.is_rate_limit
        return 400 <= self.status < 500 and not (late or self.is_of_the_account)


def text_of(document: ProblemDocument) -> str:
    """A problem in one printable line that is not too long to be shown."""
    details = [str(each.get("detail", "")) for each in document.subproblems]
    words = document.detail or document.type.removeprefix(_URN) or "no reason given"
    line = " ".join("; ".join([words, *filter(None, details)]).split())
    printable = "".join(each if each.isprintable() else "?" for each in line)
    return printable if len(printable) <= _LONGEST_TEXT else f"{printable[: _LONGEST_TEXT - 1]}…"


def refusal(problem: Problem) -> RequestRefused:
    """What the device is told: a refusal for good, or that it may come back."""
    if problem.is_rate_limit:
        return Unavailable(
            "the certification authority takes no more orders for now",
            retry_after_seconds=problem.retry_after_seconds or 60,
            code="ca_rate_limited",
        )
    if problem.is_of_the_account:
        return account_refused()
    if not problem.is_refusal:
        return Unavailable(
            "the certification authority cannot answer now", retry_after_seconds=problem.retry_after_seconds or 30
        )
    return refused(problem.kind, problem.text)


def account_refused() -> Unavailable:
    """The operator has to do something; no device can."""
    return Unavailable("the certification authority does not accept this server's account")


def refused(kind: str, text: str) -> RequestRefused:
    """A refusal for good, in the CA's words."""
    reason = f"the certification authority refuses: {text}"
    return CsrRefused(reason) if kind in _OF_THE_CSR else NotAllowed(reason)
