"""CA backend ``command``: real programs that answer, and real programs that do what they should not."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core import (
    ConfigurationError,
    CsrRefused,
    Issued,
    NotIssued,
    OutcomeUnknown,
    Unavailable,
    Wait,
)
from kipuka_core.domain.postcheck import check_issued
from kipuka_core.errors import PostcheckFailed
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import asked
from tests.external.command_kit import ISSUING, PEM, ROOT, opened
from tests.external.external_kit import approved_by, logged


# -- answers -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "script",
    [
        "cat >/dev/null; cat answer.pem",
        "cat answer.pem",  # does not read its question
        'jq -Rs "{certificate: .}" answer.pem',
        "cat answer.pem; echo for the log >&2",
    ],
    ids=["pem", "unread", "json", "with errors"],
)
async def test_a_certificate_is_issued(tmp_path: Path, script: str) -> None:
    async with opened(tmp_path, script) as backend:
        issued = await backend.issue(await approved_by(backend))
    assert isinstance(issued, Issued)
    assert issued.certificate == x509.load_pem_x509_certificate(PEM.encode())


async def test_of_a_whole_chain_the_one_for_the_key_is_taken(tmp_path: Path) -> None:
    key = pki.make_key()
    async with opened(tmp_path, "cat chain.pem own.pem") as backend:
        own = ISSUING.leaf(key=key).certificate
        (tmp_path / "own.pem").write_bytes(own.public_bytes(Encoding.PEM))
        issued = await backend.issue(await approved_by(backend, key=key))
        assert issued == Issued(own)
        with pytest.raises(OutcomeUnknown, match="several certificates and not one for the key"):
            await backend.issue(await approved_by(backend))


@pytest.mark.parametrize(
    ("script", "wait"),
    [
        ("exit 10", Wait("the certification authority has not decided yet", 60, "0123456789abcdef")),
        (
            """echo '{"wait": {"reference": "T-1", "retry_after_seconds": 5, "reason": "a\\nperson looks"}}'""",
            Wait("a person looks", 5, "T-1"),
        ),
        (
            """echo '{"wait": {"retry_after_seconds": 0}}'; exit 10""",
            Wait("the certification authority has not decided yet", 0, "0123456789abcdef"),
        ),
        (
            """echo '{"wait": {"retry_after_seconds": 99999999999}}'""",
            Wait("the certification authority has not decided yet", 7 * 86_400, "0123456789abcdef"),
        ),
    ],
)
async def test_a_request_waits(tmp_path: Path, script: str, wait: Wait) -> None:
    async with opened(tmp_path, script) as backend:
        approved = await approved_by(backend)
        assert await backend.issue(approved) == wait
        assert await backend.poll(asked(approved, "T-1")) == wait


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 11", "the certification authority refuses this request"),
        ("echo  this name is; echo taken; exit 11", "this name is taken"),
        ("""echo '{"refused": "this name is taken"}'""", "this name is taken"),
        ("""echo '{"refused": "this name is taken"}'; exit 11""", "this name is taken"),
        ("""printf '{"refused": "%0500d"}' 7""", "0" * 200 + "…"),
        ("""printf 'bell \\a and \\033[31mred'; exit 11""", "bell and [31mred"),
    ],
)
async def test_a_refusal_is_told_to_the_client(tmp_path: Path, script: str, reason: str) -> None:
    async with opened(tmp_path, script) as backend:
        approved = await approved_by(backend)
        for call in (backend.issue(approved), backend.poll(asked(approved, "T-1"))):
            with pytest.raises(CsrRefused) as caught:
                await call
            assert caught.value.reason == reason


async def test_not_available_is_surely_not_issued(tmp_path: Path) -> None:
    async with opened(tmp_path, "echo the CA is away; exit 12") as backend:
        with pytest.raises(Unavailable, match="not available now") as caught:
            await backend.issue(await approved_by(backend))
    assert not isinstance(caught.value, OutcomeUnknown)


async def test_not_issued_and_never_will_be(tmp_path: Path) -> None:
    async with opened(tmp_path, "exit 13", finds=True) as backend:
        approved = await approved_by(backend)
        with pytest.raises(NotIssued):
            await backend.poll(asked(approved))
        with pytest.raises(Unavailable) as caught:
            await backend.issue(approved)
    assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 1", "ended with 1 and an answer"),
        ("exit 0", "ended with 0 and an answer"),
        ("echo signed; exit 0", "ended with 0 and an answer"),
        ("no-such-program", "ended with 127 and an answer"),
        ("cat answer.pem; exit 1", "ended with 1 and an answer"),
        ("cat answer.pem; exit 10", "ended with 10 and an answer"),
        ("cat answer.pem; exit 11", "ended with 11 and an answer"),
        ("cat answer.pem; exit 12", "ended with 12 and an answer"),
        ("cat answer.pem; exit 13", "ended with 13 and an answer"),
        ("""echo '{"wait": {}}'; exit 11""", "ended with 11 and an answer"),
        ("""echo '{"refused": "no"}'; exit 12""", "ended with 12 and an answer"),
        ("head -n 3 answer.pem", "damaged"),
        ("""echo '{"certificate": "none"}'""", "damaged"),
        ("""echo '{"certificate": 7}'""", "damaged"),
        ("echo '{'", "begins like JSON"),
        ("yes '{\"a\":' | head -n 20000 | tr -d '\\n'", "begins like JSON"),
        ("echo '{}'", "does not say one thing"),
        ("""echo '{"issued": true}'""", "does not say one thing"),
        ("""echo '{"wait": {}, "refused": "no"}'""", "does not say one thing"),
        ("""echo '{"wait": "a while"}'""", "no JSON object that says for what"),
        ("""echo '{"wait": {"reference": ""}}'""", "without a reference"),
        ("""echo '{"wait": {"reference": 7}}'""", "without a reference"),
        ("""echo '{"wait": {"retry_after_seconds": true}}'""", "no number of seconds"),
        ("""echo '{"wait": {"retry_after_seconds": -1}}'""", "no number of seconds"),
        ("kill -9 $$", "ended by signal 9"),
        ("head -c 300000 /dev/zero", "wrote more than is read"),
        ("yes", "wrote more than is read"),
    ],
)
async def test_anything_else_is_an_outcome_that_nobody_knows(tmp_path: Path, script: str, problem: str) -> None:
    async with opened(tmp_path, script, finds=True) as backend:
        approved = await approved_by(backend)
        with pytest.raises(OutcomeUnknown, match=problem):
            await backend.issue(approved)
        with pytest.raises(Unavailable, match=problem) as caught:
            await backend.poll(asked(approved))
        assert not isinstance(caught.value, OutcomeUnknown), "asking changes nothing"


@pytest.mark.parametrize(
    "leaf",
    [ISSUING.leaf("device", ["dns:device.example"]), ISSUING.leaf(ca=True), ROOT.leaf()],
    ids=["another key", "a CA", "another issuer"],
)
async def test_what_was_not_approved_does_not_pass_the_core(tmp_path: Path, leaf: pki.Leaf) -> None:
    async with opened(tmp_path, "cat other.pem") as backend:
        (tmp_path / "other.pem").write_bytes(leaf.certificate_pem)
        approved = await approved_by(backend)
        issued = await backend.issue(approved)
    assert isinstance(issued, Issued)
    with pytest.raises(PostcheckFailed):
        check_issued(issued.certificate, approved.template, approved.issuer)


# -- what it is told ---------------------------------------------------------------------------------------------------
async def test_the_program_is_told_all_that_was_approved(tmp_path: Path) -> None:
    oid = x509.ObjectIdentifier("1.2.3.4")
    further = (x509.Extension(oid, critical=True, value=x509.UnrecognizedExtension(oid, b"\x05\x00")),)
    async with opened(tmp_path, "cat > question.json; exit 12") as backend:
        approved = await approved_by(backend, san=("dns:device.example", "ip:192.0.2.1"), extensions=further)
        with pytest.raises(Unavailable):
            await backend.issue(approved)
    question = json.loads((tmp_path / "question.json").read_text())
    template = question.pop("template")
    assert x509.load_pem_x509_csr(question.pop("csr").encode()).subject == approved.template.subject
    assert question == {
        "version": 1,
        "action": "issue",
        "request_id": "0123456789abcdef",
        "identity": {"entity_id": "device", "authenticator": "otp"},
        "label": "",
    }
    assert base64.b64decode(template.pop("subject_der")) == approved.template.subject.public_bytes()
    san = x509.SubjectAlternativeName(approved.template.san)
    assert base64.b64decode(template.pop("san_der")) == san.public_bytes()
    assert template == {
        "subject": "CN=device",
        "sans": ["dns:device.example", "ip:192.0.2.1"],
        "key_usage": ["digitalSignature"],
        "ext_key_usage": ["1.3.6.1.5.5.7.3.2"],
        "not_before": f"{approved.template.not_before:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{approved.template.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "extensions": [{"oid": "1.2.3.4", "critical": True, "value_der": "BQA="}],
    }


async def test_the_program_has_no_environment_but_what_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CA_TOKEN", "wanted")
    monkeypatch.setenv("KIPUKA_OTHER", "not wanted")
    warnings: list[str] = []
    passed_on = ["CA_TOKEN", "NOT_SET"]
    async with opened(tmp_path, "env", environment=passed_on, services={"warn": warnings.append}) as backend:
        with pytest.raises(OutcomeUnknown):
            await backend.issue(await approved_by(backend))
    assert warnings == ["ca.shell.environment: NOT_SET is not set"]
    async with opened(
        tmp_path, "env | cut -d= -f1 | sort > names; pwd > where; exit 12", environment=["CA_TOKEN"]
    ) as backend:
        with pytest.raises(Unavailable):
            await backend.issue(await approved_by(backend))
    assert set((tmp_path / "names").read_text().split()) - {"PWD", "SHLVL", "_", "OLDPWD"} == {"CA_TOKEN", "PATH"}
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)


async def test_the_arguments_are_no_shell_words(tmp_path: Path) -> None:
    arguments = ["a b", "$(touch oops)", "; exit 0", "*"]
    async with opened(tmp_path, 'printf "%s\\n" "$@" > arguments; exit 12', program=["sign", *arguments]) as backend:
        with pytest.raises(Unavailable):
            await backend.issue(await approved_by(backend))
    assert (tmp_path / "arguments").read_text().splitlines() == arguments


async def test_its_errors_are_one_short_line_of_the_log_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CA_TOKEN", "s3cret-token")
    script = (
        'echo "failed with $CA_TOKEN" >&2; head -c 2000000 /dev/zero | tr "\\0" x >&2; echo no "$CA_TOKEN"; exit 11'
    )
    async with opened(tmp_path, script, environment=["CA_TOKEN"]) as backend:
        with pytest.raises(CsrRefused) as caught:
            await backend.issue(await approved_by(backend))
    assert caught.value.reason == "no [redacted]"
    assert "sign says: failed with [redacted] xxx" in logged(caplog)
    assert len(logged(caplog)) < 700
    assert "s3cret" not in logged(caplog)


# -- the other actions -------------------------------------------------------------------------------------------------
async def test_what_the_program_does_not_do_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path, "exit 0") as backend:
        assert (backend.finds, backend.revokes, backend.external) == (False, False, True)
        with pytest.raises(Unavailable, match="cannot find out"):
            await backend.poll(asked(await approved_by(backend)))
        with pytest.raises(Unavailable, match="does not revoke"):
            await backend.revoke(ISSUING.leaf().certificate, 1)


async def test_revocations_and_pings_are_told(tmp_path: Path) -> None:
    script = "cat >> questions; [ ! -e away ] || exit 12"
    certificate = ISSUING.leaf().certificate
    async with opened(tmp_path, script, revokes=True) as backend:
        await backend.revoke(certificate, 4)
        await backend.ping()
        (tmp_path / "away").touch()
        with pytest.raises(Unavailable, match=r"has not revoked the certificate \(exit code 12\)"):
            await backend.revoke(certificate, 4)
        with pytest.raises(Unavailable, match=r"cannot issue now \(exit code 12\)"):
            await backend.ping()
    questions = [json.loads(line) for line in (tmp_path / "questions").read_text().splitlines()]
    pem = certificate.public_bytes(Encoding.PEM).decode()
    assert questions[0] == {"version": 1, "action": "revoke", "certificate": pem, "reason": 4}
    assert questions[1] == {"version": 1, "action": "ping"}


# -- start-up ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"program": ["missing"]}, "ca.shell.program: there is no .*/missing"),
        ({"program": ["chain.pem"]}, "ca.shell.program: .* is not executable; run: chmod u.x"),
        ({"program": ["."]}, "ca.shell.program: .* is not executable"),
        ({"timeout": 62}, r"ca.shell.timeout: must be shorter than \[plugins\] timeout, which is 62 s"),
        ({"chain": "missing.pem"}, "missing.pem: cannot be read: No such file"),
        ({"chain": "sign"}, "sign: does not hold PEM certificates"),
        ({"chain": "no-root.pem"}, "no-root.pem: ends before the root; add the certificate of CN=Test Root CA"),
        ({"chain": "reversed.pem"}, "reversed.pem: CN=.* did not issue CN=Test Root CA"),
        ({"chain": "leaf.pem"}, "leaf.pem: the certificate of CN=device is not a CA's"),
    ],
)
async def test_what_cannot_work_is_said_at_start_up(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    (tmp_path / "no-root.pem").write_bytes(ISSUING.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "reversed.pem").write_bytes(ROOT.pem + ISSUING.certificate.public_bytes(Encoding.PEM))
    leaf = ISSUING.leaf()
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate_pem + leaf.chain_pem + ROOT.pem)
    with pytest.raises(ConfigurationError, match=problem):
        async with opened(tmp_path, "exit 0", **change):
            pass


@pytest.mark.parametrize("strict", [False, True])
async def test_a_program_that_others_can_change_is_named(tmp_path: Path, strict: bool) -> None:
    warnings: list[str] = []
    lent = {"strict_permissions": strict, "warn": warnings.append}
    opening = opened(tmp_path, "exit 0", services=lent)
    (tmp_path / "sign").chmod(0o777)
    if strict:
        with pytest.raises(ConfigurationError, match="chmod 0755"):
            await opening.__aenter__()
        return
    async with opening:
        assert "chmod 0755" in warnings[0]
