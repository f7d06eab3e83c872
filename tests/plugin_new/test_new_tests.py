"""The tests that a new plugin comes with find what an author gets wrong; that else they pass, its story shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin_new.made import Made, make, run

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("auth", "if not hmac.compare_digest(hashed, known):", "if False:"),
        ("auth", "raise WrongSecret(name)", "return None"),
        ("policy", "startswith(self._prefixes)", "startswith(('plant', *self._prefixes))"),
        ("policy", "if template.not_after > template.not_before + self._max_validity:", "if False:"),
        ("ca", "min(template.not_after, latest, issuer.not_valid_after_utc)", "template.not_after"),
        ("ca", "if signer.private_key.public_key() != issuing.public_key():", "if False:"),
        ("keys", "os.link(temporary, path)", "os.replace(temporary, path)"),
        ("keys", "if not _KEY_NAME.fullmatch(key_name):", "if False:"),
        ("tls", "if key.public_key() != leaf.public_key():", "if False:"),
        ("tls", "return before not in {None, leaf}", "return before is not None"),
        ("events", "await asyncio.get_running_loop().run_in_executor(self._thread, self.append, line)", "self.append"),
        ("events", 'json.dumps(event.as_dict()).encode("ascii")', 'repr(event.as_dict()).encode("utf-8")'),
        ("events", "if end and os.pread", "if False and os.pread"),
        ("command", '"signed_with_its_key": is_signed', '"signed_with_its_key": True'),
        ("command", "except (ValueError, ", "except ("),
    ],
)
def test_a_careless_change_fails_them(tmp_path: Path, kind: str, right: str, wrong: str) -> None:
    made = make(kind, "erp-serials", tmp_path)
    module = made.directory / made.package / "__init__.py"
    source = module.read_text(encoding="utf-8")
    assert source.count(right) == 1

    module.write_text(source.replace(right, wrong), encoding="utf-8")

    done = _its_tests(made)
    assert done.returncode == 1, done.stdout
    assert re.search(r"^1 failed", done.stdout, re.MULTILINE), done.stdout


def _its_tests(made: Made) -> subprocess.CompletedProcess[str]:
    """Those that do not start kipuka: the plugin is not installed, but in its directory its package is found."""
    options = ("-x", "-q", "-p", "no:cacheprovider", f"--basetemp={made.directory.with_name('tests-of-it')}")
    of_kipuka = "the_command or exit_code"
    return run(
        *(sys.executable, "-m", "pytest", *options, "tests/test_erp_serials.py", "-k", f"not ({of_kipuka})"),
        cwd=made.directory,
        check=False,
    )
