"""``[hsm]``, the short name of ``[key_store.pkcs11]``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from kipuka_core import Duration, Settings


class HsmSettings(Settings):
    """What holds for keys whose URI says nothing else."""

    library: Path | None = Field(
        default=None,
        description=(
            "The vendor's PKCS#11 module. Absent: the first of the usual places that exists. `module-path` and "
            "`module-name` of a key's URI go before it."
        ),
        examples=["/usr/lib/softhsm/libsofthsm2.so"],
    )
    sessions: int = Field(
        default=4, ge=1, le=64, description="Signer processes for each token, in every worker; each has one session."
    )
    pin_env: str | None = Field(
        default=None, description="The environment variable that holds the PIN.", examples=["KIPUKA_HSM_PIN"]
    )
    pin_file: Path | None = Field(
        default=None, description="The file that holds the PIN, in its one line.", examples=["/etc/kipuka/hsm-pin"]
    )
    pin_credential: str | None = Field(
        default=None, description="The systemd credential that holds the PIN (`LoadCredential=`).", examples=["hsm-pin"]
    )
    environment: tuple[str, ...] = Field(
        default=(),
        description=(
            "Environment variables that signer processes get although their names look like those of secrets "
            "(PASSWORD, SECRET, TOKEN, CREDENTIALS, PIN, …); the vendor's module may need them."
        ),
        examples=[["AWS_SECRET_ACCESS_KEY"]],
    )
    timeout: Duration = Field(
        default=5,
        description="For one call into the module. Beyond it its process is replaced, and another one is asked.",
    )
    retry: Duration = Field(
        default=10, description="The longest pause between attempts to come back to a token that is away."
    )

    @model_validator(mode="after")
    def _one_pin(self) -> Self:
        named = [name for name in ("pin_env", "pin_file", "pin_credential") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} exclude each other: keep one")
        if self.pin_env is not None and self.pin_env in self.environment:
            raise ValueError(f"environment names {self.pin_env}, which is the PIN's: no signer process gets it")
        return self
