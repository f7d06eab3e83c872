"""From a CSR to an approved template: core rules, every policy's shape, every policy's verdict on the final one.

The direct path, the path after approval and the dry run all come through :meth:`Judge.assess` (invariant 7).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cryptography import x509

from kipuka_core.domain import rules
from kipuka_core.domain.guard import Guard, called
from kipuka_core.domain.ports import Policy
from kipuka_core.domain.renewal import carried_over, check_name_change
from kipuka_core.domain.template import initial_template
from kipuka_core.errors import CsrRefused, NotAllowed, PluginFailed
from kipuka_core.model.certificate import Approved, CaProfile, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.verdict import Allow, Deny, DenyKind, Verdict, Wait

log = logging.getLogger(__name__)

APPROVAL = "approval"
"""What the verdict of a label with ``approval = true`` is called among those of policies."""
_FOLLOWS = CaProfile()
LONGEST_REASON = 500
"""In characters."""
_VERDICTS: tuple[type[Verdict], ...] = (Allow, Deny, Wait)


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy with its name in ``[policy] order``."""

    name: str
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What every policy said of the final template."""

    enrolment: Enrolment
    issuer: x509.Certificate
    template: Template
    verdicts: tuple[tuple[str, Verdict], ...]

    def outcome(self, *, waits_are_answered: bool = False) -> Approved | Wait:
        """Deny outweighs Wait, Wait outweighs Allow.

        ``waits_are_answered`` is for a request that a person approved. Raises CsrRefused or NotAllowed for a Deny.
        """
        for _, verdict in self.verdicts:
            if isinstance(verdict, Deny):
                kind = CsrRefused if verdict.kind is DenyKind.CSR else NotAllowed
                raise kind(verdict.reason)
        waits = [verdict for _, verdict in self.verdicts if isinstance(verdict, Wait)]
        if waits and not waits_are_answered:
            return waits[0]
        return Approved(template=self.template, enrolment=self.enrolment, issuer=self.issuer)


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks all policies, in the order of the configuration."""

    policies: Sequence[NamedPolicy]
    guard: Guard

    async def assess(
        self,
        enrolment: Enrolment,
        issuer: x509.Certificate,
        longest_validity: timedelta | None = None,
        profile: CaProfile = _FOLLOWS,
    ) -> Assessment:
        """Shape the template and collect every verdict on the final one.

        ``longest_validity`` is what the CA shortens certificates to, ``profile`` what else it decides by itself: the
        policies judge the certificate that will come back.
        Raises CsrRefused or NotAllowed when a core rule is broken, PluginFailed when a policy fails.
        """
        rules.check_csr(enrolment.csr)
        check_name_change(enrolment)
        template = carried_over(initial_template(enrolment, issuer, longest_validity), enrolment)
        shapes: list[tuple[NamedPolicy | None, Template]] = [(None, template)]
        for each in self.policies:
            template = await self.guard.call(each.name, each.policy.shape, template, enrolment, expect=Template)
            shapes.append((each, template))
        template = _as_the_ca_makes_it(template, profile, issuer)
        as_shaped = replace(template)
        verdicts: list[tuple[str, Verdict]] = []
        for each in self.policies:
            verdict: Verdict = await self.guard.call(
                each.name, each.policy.decide, template, enrolment, expect=_VERDICTS
            )
            if template != as_shaped:  # frozen, but Python lets a determined policy write into it
                raise PluginFailed(each.name, "changed the template while judging it")
            verdicts.append((each.name, _worded(each, verdict)))
        if enrolment.label.approval:
            verdicts.append((APPROVAL, Wait("an administrator has to approve this request")))
        assessment = Assessment(enrolment=enrolment, issuer=issuer, template=as_shaped, verdicts=tuple(verdicts))
        if not any(isinstance(verdict, Deny) for _, verdict in verdicts):
            # After the policies, whose refusals are worded for the setting that the operator knows.
            try:
                rules.check_template(as_shaped, enrolment, issuer)
            except CsrRefused as refusal:
                _blame(shapes, enrolment, issuer, refusal)
                raise
        return assessment


def _worded(by: NamedPolicy, verdict: Verdict) -> Verdict:
    """The verdict with a reason that fits into an answer and an event: short, and one line (RFC 7030 4.2.3)."""
    if isinstance(verdict, Allow):
        return verdict
    reason = verdict.reason
    if len(reason) <= LONGEST_REASON and reason.isprintable() and reason.strip():
        return verdict
    shown = "".join(each if each.isprintable() else "?" for each in reason[:LONGEST_REASON]).strip()
    log.warning(
        "policy %s: %s gave a reason that is empty, longer than %d characters or not one printable line; it was cut",
        by.name,
        called(by.policy.decide),
        LONGEST_REASON,
    )
    return replace(verdict, reason=shown or "the request is not allowed here")


def _blame(
    shapes: Sequence[tuple[NamedPolicy | None, Template]],
    enrolment: Enrolment,
    issuer: x509.Certificate,
    refusal: CsrRefused,
) -> None:
    """Tell the log which policy made a template that breaks a core rule, of one that kept them all."""
    is_sound = False
    for by, template in shapes:
        try:
            rules.check_template(template, enrolment, issuer)
        except CsrRefused:
            if is_sound and by is not None:
                log.error("policy %s: %s broke a core rule: %s", by.name, called(by.policy.shape), refusal.reason)
                return
            is_sound = False
        else:
            is_sound = True


def _as_the_ca_makes_it(template: Template, profile: CaProfile, issuer: x509.Certificate) -> Template:
    made = profile.applied(template)
    if profile.validity is None:
        return made
    return replace(made, not_after=min(made.not_after, issuer.not_valid_after_utc))
