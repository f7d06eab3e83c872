import pytest

from kipuka_core.errors import NotFound
from kipuka_core.model.request import Operation
from kipuka_core.wire.paths import Route, parse, valid_label_name

BASE = "/.well-known/est"


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_is_found_with_and_without_a_label(operation: Operation) -> None:
    assert parse(f"{BASE}/{operation}", BASE) == Route("", operation)
    assert parse(f"{BASE}/line.7~a_b-C/{operation}", BASE) == Route("line.7~a_b-C", operation)


def test_another_base_path_is_served_instead_of_the_well_known_one() -> None:
    assert parse("/est/cacerts", "/est") == Route("", Operation.CACERTS)
    with pytest.raises(NotFound):
        parse(f"{BASE}/cacerts", "/est")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "served under /.well-known/est"),
        ("/", "served under"),
        (BASE, "served under"),
        ("/.well-known/established/cacerts", "served under"),
        (f"{BASE}/", "empty segment"),
        (f"{BASE}/cacerts/", "empty segment"),
        (f"{BASE}//cacerts", "empty segment"),
        (f"{BASE}/a//cacerts", "empty segment"),
        (f"{BASE}/a/b/cacerts", "at most one label"),
        (f"{BASE}/simpleenroll/cacerts", "never called like an operation"),
        (f"{BASE}/a", "no known operation; known are cacerts, csrattrs"),
        (f"{BASE}/a/CACERTS", "no known operation"),
        (f"{BASE}/a/unknown", "no known operation"),
        (f"{BASE}/a b/cacerts", "not a possible label name"),
        (f"{BASE}/é/cacerts", "not a possible label name"),
        (f"{BASE}/a\n/cacerts", "not a possible label name"),
        (f"{BASE}/../cacerts", "not a possible label name"),
        (f"{BASE}/{'x' * 65}/cacerts", "not a possible label name"),
    ],
)
def test_a_path_that_is_not_a_route_is_not_found_with_a_reason(path: str, says: str) -> None:
    with pytest.raises(NotFound, match=says):
        parse(path, BASE)


@pytest.mark.parametrize("name", ["a", "A-1", "v1.0", "~x_", "x" * 64])
def test_unreserved_characters_make_a_label_name(name: str) -> None:
    assert valid_label_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "a b", "a\n", "é", ".", "..", "renewal-info", *Operation])
def test_routes_dot_segments_and_other_characters_make_no_label_name(name: str) -> None:
    assert not valid_label_name(name)
