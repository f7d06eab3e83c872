"""The doors: ``[enrollment]``, ``[est]`` and ``[[est.label]]`` put together into the model's labels."""

from __future__ import annotations

from kipuka_core.config.model import Config
from kipuka_core.config.sections.enrollment import Enrollment, EstLabel
from kipuka_core.model.label import EnrollmentRules, Label


def labels(config: Config) -> tuple[Label, ...]:
    """Every door: the one without a label first (its name is ``""``), then each ``[[est.label]]`` in order."""
    nameless = EstLabel(name="")
    return tuple(_label(config, table) for table in (nameless, *config.est.label))


def rules_of(base: Enrollment, override: Enrollment) -> EnrollmentRules:
    """``base`` with what ``override`` says explicitly."""
    values = {
        name: getattr(override if name in override.model_fields_set else base, name) for name in Enrollment.model_fields
    }
    return EnrollmentRules(**values)


def _label(config: Config, table: EstLabel) -> Label:
    return Label(
        name=table.name,
        ca_id=table.ca or config.default_ca.id,
        rules=rules_of(config.enrollment, table),
        auth_order=table.auth or config.auth.order,
        renew_from=table.renew_from,
        accept_from=table.accept_from,
        san_carry_over=table.san_carry_over,
        allow_name_change=table.allow_name_change,
        approval=table.approval,
        retry_after_seconds=config.est.retry_after,
        csr_attributes=config.est.csr_attributes,
    )
