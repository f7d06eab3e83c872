"""The example of a third-party plugin does what its README says, beside this kipuka."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

from tests.interop.programs import run
from tests.packaging.happenings import EXAMPLE, check_happenings
