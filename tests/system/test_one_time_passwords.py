"""One-time passwords over the wire: used up once, bound, timed, and guarded against guessing (invariant 5)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.system.system_kit import System, deploy, serving


def test_a_used_password_is_401_for_another_csr_and_not_counted(system: System) -> None:
    token = system.otp("used")
    assert len(system.client().enrol(make_csr(common_name="used"), user="used", password=token).certificates()) == 1
    for _ in range(7):
        answer = system.client().enrol(make_csr(common_name="used"), user="used", password=token)
        assert system.refused(answer, 401, "used up")["code"] == "otp_used"
        assert "www-authenticate" in answer.headers
    assert system.uses(token) == (1, 0)
    assert system.issued_to("used") == 1
    fresh = system.otp("used")
    assert len(system.client().enrol(make_csr(common_name="used"), user="used", password=fresh).certificates()) == 1


def test_the_same_csr_with_the_same_password_gets_the_same_certificate_again(system: System) -> None:
    token, key = system.otp("lost-answer"), make_key()
    csr = make_csr(key, "lost-answer")
    first = system.client().enrol(csr, user="lost-answer", password=token).certificate()
    signed_again = make_csr(key, "lost-answer")
    assert signed_again != csr
    for repeated in (csr, signed_again):
        assert system.client().enrol(repeated, user="lost-answer", password=token).certificate() == first
    assert system.uses(token) == (1, 0)
    assert system.issued_to("lost-answer") == 1
    replays = [
        fact for fact in system.audit() if fact["event"] == "enrolment_replayed" and fact["actor"] == "lost-answer"
    ]
    assert [fact["serial"] for fact in replays] == [f"{first.serial_number:x}"] * 2
    assert len({fact["request_id"] for fact in replays}) == 2


def test_the_same_csr_with_another_password_gets_a_new_certificate(system: System) -> None:
    one, two, csr = system.otp("two-tokens"), system.otp("two-tokens"), make_csr(common_name="two-tokens")
    first = system.client().enrol(csr, user="two-tokens", password=one).certificate()
    assert system.client().enrol(csr, user="two-tokens", password=two).certificate() != first
    assert system.uses(two) == (1, 0)


def test_ten_minutes_later_the_same_csr_is_answered_like_another(system: System) -> None:
    token, csr = system.otp("late"), make_csr(common_name="late")
    certificate = system.client().enrol(csr, user="late", password=token).certificate()
    age(system, f"{certificate.serial_number:x}", minutes=11)
    assert system.refused(system.client().enrol(csr, user="late", password=token), 401)["code"] == "otp_used"


def age(system: System, serial_hex: str, *, minutes: int) -> None:
    """Move the moment of issuance into the past."""
    with closing(sqlite3.connect(system.deployment.database, timeout=30)) as database, database:
        database.execute(
            "UPDATE certificates SET issued_at = issued_at - ? WHERE serial_hex = ?", (minutes * 60_000_000, serial_hex)
        )


def test_a_replay_stops_when_the_certificate_is_revoked(system: System) -> None:
    token, csr = system.otp("replay-revoked"), make_csr(common_name="replay-revoked")
    certificate = system.client().enrol(csr, user="replay-revoked", password=token).certificate()
    system.deployment.kipuka("certs", "revoke", f"{certificate.serial_number:x}")
    answer = system.client().enrol(csr, user="replay-revoked", password=token)
    assert system.refused(answer, 401)["code"] == "otp_used"


def test_an_expired_password_is_401(system: System) -> None:
    token = system.otp("expired", ttl_seconds=1)
    outcome: list[Answer] = []

    def expired() -> bool:
        answer = system.client().enrol(make_csr(common_name="mismatch"), user="expired", password=token)
        outcome[:] = [answer]
        return answer.status == 401

    wait_until(expired)
    assert system.refused(outcome[0], 401, "expired")["code"] == "otp_expired"
    assert system.issued_to("expired") == 0


def test_a_password_is_good_as_often_as_it_says_and_no_oftener(system: System) -> None:
    token = system.otp("thrice", max_usage=3)
    for used in (1, 2, 3):
        assert (
            len(system.client().enrol(make_csr(common_name="thrice"), user="thrice", password=token).certificates())
            == 1
        )
        assert system.uses(token) == (used, 0)
    answer = system.client().enrol(make_csr(common_name="thrice"), user="thrice", password=token)
    assert system.refused(answer, 401)["code"] == "otp_used"


def test_of_many_requests_at_once_with_one_password_one_is_served(system: System) -> None:
    token = system.otp("race")
    csrs = [make_csr(common_name="race") for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda csr: system.client().enrol(csr, user="race", password=token), csrs))
    assert sorted({answer.status for answer in answers} - {503}) in ([200, 401], [200])
    assert sum(answer.status == 200 for answer in answers) == 1
    assert all("retry-after" in answer.headers for answer in answers if answer.status == 503)
    assert system.issued_to("race") == 1
    assert system.uses(token) == (1, 0)


@pytest.mark.parametrize("bound_to", ["factory", ""])
def test_a_password_of_a_label_is_good_at_this_label_only_and_not_counted_elsewhere(
    system: System, bound_to: str
) -> None:
    token = system.otp("bound", label=bound_to)
    for other in {"", "factory", "a"} - {bound_to}:
        for _ in range(3):
            answer = system.client().enrol(make_csr(common_name="bound"), user="bound", password=token, label=other)
            assert system.refused(answer, 403, "another path")["code"] == "otp_other_label"
    assert system.uses(token) == (0, 0)
    answer = system.client().enrol(make_csr(common_name="bound"), user="bound", password=token, label=bound_to)
    assert len(answer.certificates()) == 1


def test_a_withdrawn_password_is_401(system: System) -> None:
    made = system.deployment.kipuka("otp", "create", "withdrawn")
    system.tokens.append(token := made.stdout.strip())
    otp_id = re.search(r"id (\w+),", made.stderr)
    assert otp_id
    system.deployment.kipuka("otp", "revoke", otp_id[1])
    answer = system.client().enrol(make_csr(common_name="withdrawn"), user="withdrawn", password=token)
    assert system.refused(answer, 401, "withdrawn")["code"] == "otp_revoked"


def test_a_password_made_at_the_command_line_is_good_at_once(system: System) -> None:
    token = system.deployment.otp("from-cli", "--label", "factory", "--ttl", "10m")
    system.tokens.append(token)
    csr = make_csr(common_name="from-cli")
    assert len(system.client().enrol(csr, user="from-cli", password=token, label="factory").certificates()) == 1


LIMITS = """
[auth]
order = ["otp", "basic"]
[auth.otp]
max_failures = 3
address_failures = 12
lockout = "30m"
[auth.basic]
users_file = "users"
"""


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("strict") / "deployment"
    deployment = deploy(directory, LIMITS)
    (directory / "users").write_text("", encoding="utf-8")
    (directory / "users").chmod(0o600)
    with serving(deployment) as running:
        yield running


def try_wrong(system: System, entity: str, times: int) -> None:
    for _ in range(times):
        answer = system.client().enrol(make_csr(common_name=entity), user=entity, password="wrong")
        assert system.refused(answer, 401)["code"] == "not_authenticated"


def test_guessing_locks_the_pair_of_address_and_entity_and_nobody_else(strict: System) -> None:
    token, other = strict.otp("victim"), strict.otp("neighbour")
    try_wrong(strict, "victim", 3)
    for password in ("wrong", token):
        answer = strict.client().enrol(make_csr(common_name="victim"), user="victim", password=password)
        assert strict.refused(answer, 429, "wait")["code"] == "locked_out"
        assert 1700 < int(answer.headers["retry-after"]) <= 1800
    assert strict.uses(token) == (0, 0)
    assert (
        len(strict.client().enrol(make_csr(common_name="neighbour"), user="neighbour", password=other).certificates())
        == 1
    )
    (fact,) = [fact for fact in strict.audit() if fact["event"] == "client_locked_out"]
    assert (fact["entity_id"], fact["source_address"]) == ("victim", "127.0.0.1")


def test_names_that_nobody_has_are_counted_too_and_a_whole_address_is_locked_in_the_end(strict: System) -> None:
    for number in range(6):
        try_wrong(strict, f"guessed-{number}", 2)
    token = strict.otp("honest")
    answer = strict.client().enrol(make_csr(common_name="honest"), user="honest", password=token)
    assert strict.refused(answer, 429)["code"] == "locked_out"


def test_used_and_other_label_passwords_never_lock(strict: System) -> None:
    used, elsewhere = strict.otp("clumsy"), strict.otp("clumsy", label="")
    assert len(strict.client().enrol(make_csr(common_name="clumsy"), user="clumsy", password=used).certificates()) == 1
    for _ in range(5):
        strict.refused(strict.client().enrol(make_csr(common_name="clumsy"), user="clumsy", password=used), 401)
    assert strict.rows("SELECT 1 FROM auth_failures") == []
    assert (
        len(strict.client().enrol(make_csr(common_name="clumsy"), user="clumsy", password=elsewhere).certificates())
        == 1
    )


def test_a_lockout_outlives_the_server(strict: System) -> None:
    token = strict.otp("persistent")
    try_wrong(strict, "persistent", 3)
    strict.server.stop()
    with serving(strict.deployment) as again:
        answer = again.client().enrol(make_csr(common_name="persistent"), user="persistent", password=token)
        again.refused(answer, 429)


def test_no_secret_that_was_sent_is_in_any_file_of_the_server(strict: System) -> None:
    good, unused, used_elsewhere = strict.otp("secretive"), strict.otp("secretive"), strict.otp("other")
    guess = "guess-Zx81-not-a-token"
    csr = make_csr(common_name="secretive", challenge_password=b"hunter2-is-shared")
    client = strict.client()
    assert len(client.enrol(make_csr(common_name="secretive"), user="secretive", password=good).certificates()) == 1
    strict.refused(client.enrol(csr, user="secretive", password=unused), 400)
    strict.refused(client.enrol(csr, user="other", password=good), 401)
    strict.refused(client.enrol(csr, user="secretive", password=guess), 401)
    strict.refused(client.enrol(csr, user="x\x7f", password=used_elsewhere), 400)
    strict.refused(client.request("POST", "simpleenroll", good.encode(), {"Content-Type": good}), 415)
    strict.server.stop()
    secrets = [*strict.tokens, guess, "hunter2-is-shared"]
    files = [file for file in strict.deployment.directory.rglob("*") if file.is_file()]
    assert {"server.log", "audit.jsonl", "kipuka.db"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, f"{secret} in {file.name}"
            assert secret.encode()[:-3] not in content, f"{secret} in {file.name}"
