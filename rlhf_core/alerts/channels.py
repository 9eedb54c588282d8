"""Where the messages of a rule go."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput

EMAIL = "email"
WEBHOOK = "webhook"
MAX_TARGETS = 20
MAX_TARGET_CHARS = 500

_ADDRESS = re.compile(r"[^\s@,;<>\"()\[\]\\]{1,64}@[A-Za-z0-9.-]{1,253}")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Channels:
    """E-mail addresses and webhooks. The page shows every alert, whatever stands here."""

    emails: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for address in self.emails:
            if len(address) > MAX_TARGET_CHARS or not _ADDRESS.fullmatch(address):
                raise InvalidInput(f"{address!r} is no e-mail address.", field="emails")
        for url in self.webhooks:
            parse_webhook(url)
        if len(self.emails) + len(self.webhooks) > MAX_TARGETS:
            raise InvalidInput(
                f"{len(self.emails) + len(self.webhooks)} addresses: give at most {MAX_TARGETS}.",
                field="emails",
            )

    def targets(self) -> list[tuple[str, str]]:
        """(channel, address) of each."""
        return [(EMAIL, one) for one in self.emails] + [(WEBHOOK, one) for one in self.webhooks]

    def to_json(self) -> dict[str, Any]:
        """As `parse_channels` reads it."""
        return {"emails": list(self.emails), "webhooks": list(self.webhooks)}


def parse_channels(plain: Mapping[str, Any] | None) -> Channels:
    """What `to_json` wrote."""
    plain = plain or {}
    return Channels(tuple(plain.get("emails", ())), tuple(plain.get("webhooks", ())))


def split_targets(text: str) -> tuple[str, ...]:
    """The addresses in a text, with blanks, commas or lines between them, each once."""
    return tuple(dict.fromkeys(part for part in re.split(r"[\s,;]+", text) if part))


def parse_webhook(url: str) -> SplitResult:
    """The parts of a webhook's address; InvalidInput where it is none that can be called."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{url!r} is no address of a webhook.", field="webhooks") from error
    if len(url) > MAX_TARGET_CHARS or _UNSAFE.search(url) or not url.isascii():
        raise InvalidInput(
            f"webhook {url[:60]!r}: give an address of at most {MAX_TARGET_CHARS} plain "
            "characters without blanks.",
            field="webhooks",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidInput(
            f"webhook {url!r}: give an address that begins with https:// or http://.",
            field="webhooks",
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "The webhook's address holds a user name: leave it out; messages are signed.",
            field="webhooks",
        )
    return parts


def describe_target(channel: str, target: str) -> str:
    """How a target is named: a webhook by its host only, for its path may hold a secret."""
    return target if channel == EMAIL else f"{WEBHOOK} {urlsplit(target).hostname or '?'}"


def list_channel_troubles(channels: Channels) -> list[str]:
    """Why what goes there would not be sent, by the settings of this machine."""
    settings = get_settings()
    troubles = []
    if channels.emails and not (settings.smtp_host and settings.smtp_from):
        troubles.append("No e-mail is sent until RLHF_SMTP_HOST and RLHF_SMTP_FROM are set.")
    if channels.webhooks and not settings.webhook_secret:
        troubles.append("No webhook is sent until RLHF_WEBHOOK_SECRET is set, which signs it.")
    return troubles


def count_targets(targets: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many addresses of each channel: what the audit may keep."""
    counts: dict[str, int] = {}
    for channel, _ in targets:
        counts[channel] = counts.get(channel, 0) + 1
    return counts
