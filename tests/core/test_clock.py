from datetime import UTC

from rlhf_core.clock import new_id, utcnow


def test_ids_are_distinct_and_sorted_by_time() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    milliseconds = [value.int >> 80 for value in ids]
    assert milliseconds == sorted(milliseconds)


def test_ids_are_version_7_of_the_standard() -> None:
    value = new_id()
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"


def test_now_has_the_zone_utc() -> None:
    assert utcnow().tzinfo is UTC
