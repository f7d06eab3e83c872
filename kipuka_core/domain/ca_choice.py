"""Which CA a request goes to: that of its label, or one of a group (``[[ca_group]]``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from kipuka_core.domain.ca_groups import CaGroup
from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.errors import CaAway, OutcomeUnknown, PluginFailed, RequestRefused, Unavailable
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.label import Label

OUTCOME_UNKNOWN = OutcomeUnknown.code


class Seen:
    """What one request has seen of a CA."""

    def __init__(self) -> None:
        self.is_well: bool | None = None

    def has_answered(self) -> None:
        """With a certificate, or "later"."""
        self.is_well = True

    def was_away(self) -> None:
        """It was not there."""
        self.is_well = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaChoice:
    """Knows the groups, and how their members have been lately."""

    cas: Mapping[str, CaBackend]
    guard: Guard
    groups: Mapping[str, CaGroup] = field(default_factory=dict)

    def is_group(self, label: Label) -> bool:
        """Whether the label's ``ca`` is a group."""
        return label.ca_id in self.groups

    def one_of(self, label: Label) -> str:
        """A CA of the label, for looks that ask none."""
        group = self.groups.get(label.ca_id)
        return label.ca_id if group is None else group.members[0]

    def home(self, label: Label) -> Label:
        """The label with the group again that its CA was chosen from."""
        return replace(label, ca_id=label.group_id) if label.group_id else label

    def places(self, enrolment: Enrolment) -> Iterator[Enrolment]:
        """The enrolment at each CA that may be asked, one after the other. Raises Unavailable when there is none."""
        label = enrolment.label
        group = self.groups.get(label.ca_id)
        if group is None:
            yield enrolment
            return
        for ca_id in group.candidates():
            yield replace(enrolment, label=replace(label, ca_id=ca_id, group_id=group.id))

    @contextmanager
    def watched(self, ca_id: str) -> Iterator[Seen]:
        """Take note of how the CA does in the body."""
        seen = Seen()
        try:
            yield seen
        except PluginFailed as error:
            if error.plugin == ca_id:
                seen.was_away()
            raise
        except RequestRefused as error:
            if isinstance(error, CaAway) or error.code == OUTCOME_UNKNOWN:
                seen.was_away()
            raise
        finally:
            for group in self.groups.values():
                if (circuit := group.circuits.get(ca_id)) is not None:
                    circuit.note(seen.is_well)

    async def chain_of(self, ca_id: str) -> CaChain:
        """The certificates of one CA. Raises CaAway for a member of a group that does not answer."""
        try:
            return await self.guard.call(ca_id, self.cas[ca_id].chain, expect=CaChain)
        except (Unavailable, PluginFailed) as error:
            if not any(ca_id in group.members for group in self.groups.values()):
                raise
            raise CaAway("the certification authority cannot be reached now; repeat the request later") from error

    async def chain(self, label: Label) -> CaChain:
        """The certificates of a label's CA; of a group, those of every member that answers."""
        group = self.groups.get(label.ca_id)
        if group is None:
            return await self.chain_of(label.ca_id)
        chains, away = [], None
        for ca_id in group.members:
            try:
                chains.append(await self.chain_of(ca_id))
            except CaAway as error:
                away = error
        if not chains:
            raise away or Unavailable("the group has no member")
        first = chains[0]
        others = [each for chain in chains[1:] for each in (*chain.certificates, *chain.previous)]
        more = [each for each in dict.fromkeys((*first.previous, *others)) if each not in first.certificates]
        return CaChain(certificates=first.certificates, previous=tuple(more))
