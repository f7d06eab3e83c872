"""The settings by which every external CA backend is told what its CA decides by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, Strict, field_validator

from kipuka_core.hooks.certificate_values import ExtensionOid, ExtKeyUsageOid, KeyUsageName, SubjectAttributeOid
from kipuka_core.hooks.provider import Settings
from kipuka_core.model.certificate import CaProfile
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.oids import EXTENSIONS, name_of

_ALWAYS_COMPARED = frozenset(
    EXTENSIONS[name] for name in ("basicConstraints", "subjectAltName", "keyUsage", "extendedKeyUsage")
)


class CaProfileSettings(Settings):
    """Base of the settings of a CA backend whose CA follows the approved template only in part.

    What is declared here is applied to the template before policies judge it; what is not declared has to come back as
    approved.
    """

    sets_validity_days: Annotated[int, Strict(), Field(ge=1, le=36500)] | None = Field(
        default=None, description="The CA chooses the validity itself: at most so many days, from when it likes."
    )
    sets_key_usage: tuple[KeyUsageName, ...] | None = Field(
        default=None, description="Every certificate of this CA has this key usage; `[]`: none."
    )
    sets_ext_key_usage: tuple[ExtKeyUsageOid, ...] | None = Field(
        default=None,
        description="Every certificate of this CA has this extended key usage, by name or dotted OID; `[]`: none.",
    )
    keeps_subject: tuple[SubjectAttributeOid, ...] | None = Field(
        default=None,
        description=(
            'The attributes of the subject that the CA keeps, such as `["commonName"]`; it leaves the others out. By '
            "name or dotted OID; `[]`: none."
        ),
    )
    adds_extensions: tuple[ExtensionOid, ...] = Field(
        default=(),
        description="Further extensions that the CA adds, with values of its own. By name or dotted OID.",
    )

    @field_validator("sets_key_usage")
    @classmethod
    def _bits_that_go_together(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        key_usage_extension(value or ())
        return value

    @field_validator("adds_extensions")
    @classmethod
    def _only_further_ones(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for oid in value:
            if oid in _ALWAYS_COMPARED:
                raise ValueError(f"{name_of(oid, EXTENSIONS)} is no further one: it is compared with what was approved")
        return value

    def ca_profile(self) -> CaProfile:
        """What is declared, as :attr:`kipuka_core.CaBackend.may_set` says it."""
        return CaProfile(
            validity=None if self.sets_validity_days is None else timedelta(days=self.sets_validity_days),
            key_usage=None if self.sets_key_usage is None else frozenset(self.sets_key_usage),
            ext_key_usage=None if self.sets_ext_key_usage is None else tuple(dict.fromkeys(self.sets_ext_key_usage)),
            subject_attributes=None if self.keeps_subject is None else tuple(dict.fromkeys(self.keeps_subject)),
            extensions=tuple(dict.fromkeys(self.adds_extensions)),
        )
