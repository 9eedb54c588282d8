import pytest

from rlhf_core.errors import Conflict
from rlhf_core.privacy.pseudonyms import check_key, make_pseudonym
from rlhf_core.store.engine import Store


def test_one_person_has_one_pseudonym_a_key_and_another_under_another_key() -> None:
    first = make_pseudonym("ada@example.org", b"key")
    assert first == make_pseudonym("ada@example.org", b"key")
    assert first != make_pseudonym("ada@example.org", b"other key")
    assert first != make_pseudonym("ida@example.org", b"key")
    assert "ada" not in first
    assert len(first) == 34


def test_a_database_filled_with_one_key_refuses_another(store: Store) -> None:
    with store.writing() as db:
        check_key(db, b"first")
    with store.writing() as db:
        check_key(db, b"first")
    with pytest.raises(Conflict, match="RLHF_SECRET_KEY"), store.writing() as db:
        check_key(db, b"second")
