"""Passwords: scrypt, with the parameters kept in the hash so that they can be raised later."""

import base64
import hashlib
import hmac
import secrets
import threading
import unicodedata

from rlhf_core.errors import InvalidInput

MIN_CHARS, MAX_CHARS = 10, 200
LOG2_N, BLOCK, PARALLEL = 15, 8, 3  # 32 MiB and about 0.2 s a check (OWASP's middle setting)

_at_once = threading.Semaphore(2)  # each check takes 32 MiB: a flood of sign-ins must not add up


def hash_password(password: str) -> str:
    """`scrypt$log2n$r$p$salt$key`, base64.

    Raises:
        InvalidInput: shorter than `MIN_CHARS` or longer than `MAX_CHARS` characters.
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidInput(
            f"password: has {len(password)} characters; "
            f"use {MIN_CHARS} to {MAX_CHARS}, several words are best",
            field="password",
        )
    salt = secrets.token_bytes(16)
    key = _derive(password, salt, LOG2_N, BLOCK, PARALLEL)
    encoded = (base64.b64encode(part).decode() for part in (salt, key))
    return "$".join(("scrypt", str(LOG2_N), str(BLOCK), str(PARALLEL), *encoded))


def verify_password(password: str, stored: str | None) -> bool:
    """Whether it is the password. Without a stored hash it takes as long, and is False."""
    if len(password) > MAX_CHARS:
        return False
    if stored is None:
        _derive(password, b"no such account.", LOG2_N, BLOCK, PARALLEL)
        return False
    _, log2_n, block, parallel, salt, key = stored.split("$")
    derived = _derive(password, base64.b64decode(salt), int(log2_n), int(block), int(parallel))
    return hmac.compare_digest(derived, base64.b64decode(key))


def _derive(password: str, salt: bytes, log2_n: int, block: int, parallel: int) -> bytes:
    normal = unicodedata.normalize("NFKC", password)  # one password on every keyboard
    with _at_once:
        return hashlib.scrypt(
            normal.encode(errors="surrogatepass"),
            salt=salt, n=1 << log2_n, r=block, p=parallel, maxmem=1 << 28,
        )  # fmt: skip
