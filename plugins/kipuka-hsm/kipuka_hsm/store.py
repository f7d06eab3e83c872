"""The key store for ``pkcs11:`` URIs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core import ConfigurationError, KeyStore, Provider, Services, Signer, TokenHealth, Unavailable
from kipuka_hsm.events import announcement
from kipuka_hsm.keys import TokenKey, public_key_of, token_key
from kipuka_hsm.messages import to_bytes
from kipuka_hsm.modules import module_named, module_path, usual_module
from kipuka_hsm.pins import LoginGuard, PinSource, pin_of_credential, pin_of_environment, pin_of_file, pin_of_source
from kipuka_hsm.pins import pin_of_value
from kipuka_hsm.pool import Pool, PoolEvent, PoolLimits
from kipuka_hsm.probe import probe
from kipuka_hsm.process import ProcessGone, TokenFailed
from kipuka_hsm.session import KeyRef, Session, SessionOpener
from kipuka_hsm.settings import HsmSettings
from kipuka_hsm.threads import SignerThreads
from kipuka_hsm.uri import Pkcs11Uri, parse_uri, without_pin
