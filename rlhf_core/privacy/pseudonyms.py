"""User ids from outside become keyed pseudonyms at the door: only these are stored."""

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from rlhf_core.errors import Conflict

if TYPE_CHECKING:  # the processes of an import make pseudonyms too, and know no database
    from sqlalchemy.orm import Session

FINGERPRINT = "pseudonym_key_fingerprint"
_PSEUDONYM = re.compile(r"u_[0-9a-f]{32}")


ACCOUNT_USER = "account "
"""How the ids of users begin that are accounts of the dashboard; nobody outside may use them."""


def account_user(account_id: object) -> str:
    """The id of an account as a user of the assistant: of it a pseudonym is made, as of others."""
    return f"{ACCOUNT_USER}{account_id}"


def make_pseudonym(user_id: str, key: bytes) -> str:
    """HMAC-SHA256 of the id, cut to 128 bits: `u_` and 32 hexadecimal digits.

    The same id and key give the same pseudonym; without the key it cannot be guessed back.
    """
    return "u_" + hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:32]


def check_key(db: "Session", key: bytes) -> None:
    """Remember the key's fingerprint at first; later refuse another key.

    Two machines with two keys would make two pseudonyms of one person, silently.

    Raises:
        Conflict: the database was filled with another key.
    """
    from rlhf_core.store.tables import StoreFact
    from rlhf_core.store.upsert import insert_if_absent

    fingerprint = hmac.new(key, b"fingerprint", hashlib.sha256).hexdigest()[:16]
    insert_if_absent(db, StoreFact, [{"name": FINGERPRINT, "value": fingerprint}])
    known = db.get_one(StoreFact, FINGERPRINT).value
    if known != fingerprint:
        raise Conflict(
            f"RLHF_SECRET_KEY (fingerprint {fingerprint}) is not the key this database was filled "
            f"with ({known}): set the same key on every machine."
        )


def is_pseudonym(text: str) -> bool:
    """Whether the text is a pseudonym already: `u_` and 32 hexadecimal digits."""
    return _PSEUDONYM.fullmatch(text) is not None
