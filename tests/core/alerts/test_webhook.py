"""Signed messages to addresses that somebody typed, and what they cannot reach."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rlhf_core.alerts import webhook
from rlhf_core.alerts.channels import Channels, parse_webhook, split_targets
from rlhf_core.alerts.webhook import find_addresses, is_public, send_webhook
from rlhf_core.config import Settings
from rlhf_core.errors import InvalidInput, Unavailable
from tests.core.alerts.listeners import Hook, listening

OPEN = Settings(webhook_secret="key", webhook_allow_private=True)
CLOSED = Settings(webhook_secret="key")


def send(url: str, settings: Settings = OPEN, **options: Any) -> None:
    send_webhook(url, {"event": "alert.test", "text": "ß"}, delivery="d1", settings=settings,
                 **options)  # fmt: skip


def test_message_arrives_with_a_signature_that_the_receiver_can_check() -> None:
    with listening(Hook()) as hook:
        send(hook.url)
    ((path, headers, body),) = hook.got
    assert path == "/hook?a=1"
    assert json.loads(body) == {"event": "alert.test", "text": "ß"}
    message = headers["x-rlhf-timestamp"].encode() + b"." + body
    assert headers["x-rlhf-signature"] == (
        "v1=" + hmac.new(b"key", message, hashlib.sha256).hexdigest()
    )
    assert headers["x-rlhf-delivery"] == "d1"
    assert headers["host"] == hook.url.split("/")[2]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1",  # noqa: S104
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
        "fe80::1%eth0", "fc00::1", "ff02::1", "fec0::1", "192.0.0.9", "192.88.99.1",
        "::ffff:192.0.0.10", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "2001:0:1::1", "nonsense",
    ],
)  # fmt: skip
def test_address_inside_is_no_public_one(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_address_of_the_internet_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433"])
def test_nothing_is_sent_to_this_machine(host: str) -> None:
    with listening(Hook()) as hook, pytest.raises(Unavailable, match=r"private address|not known"):
        send(f"http://{host}:{hook.server_address[1]}/", CLOSED)
    assert hook.got == []


def resolve_to(*addresses: str) -> Callable[..., Any]:
    def resolve(_host: str, port: int, **_: Any) -> Any:
        kinds = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses]
        return [
            (kind, socket.SOCK_STREAM, 6, "", (one, port))
            for kind, one in zip(kinds, addresses, strict=True)
        ]

    return resolve


def test_name_with_one_private_address_among_public_ones_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to("8.8.8.8", "10.0.0.1"))
    with pytest.raises(Unavailable, match="private"):
        find_addresses(parse_webhook("https://rebind.example/"), allow_private=False)


def test_name_is_resolved_once_and_the_connection_goes_to_what_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second answer of a name server that lies is never asked for."""
    asked: list[str] = []
    went: list[Any] = []

    def resolve(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return resolve_to("8.8.8.8" if len(asked) == 1 else "127.0.0.1")(host, port)

    def connect(address: tuple[str, int], **_: Any) -> socket.socket:
        went.append(address)
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(webhook.socket, "create_connection", connect)
    with pytest.raises(Unavailable, match="nobody there"):
        send("http://rebind.example:81/", CLOSED)
    assert (asked, went) == (["rebind.example"], [("8.8.8.8", 81)])


def test_next_address_is_tried_where_the_first_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening(Hook()) as hook:
        port = hook.server_address[1]
        real, two = socket.getaddrinfo, resolve_to("127.0.0.2", "127.0.0.1")
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, at, *rest, **options: (
                two(host, at) if host == "two.example" else real(host, at, *rest, **options)
            ),
        )
        send(f"http://two.example:{port}/")
    assert [headers["host"] for _, headers, _ in hook.got] == [f"two.example:{port}"]


def test_redirect_is_not_followed_and_an_error_is_told() -> None:
    with listening(Hook(302, 500)) as hook:
        with pytest.raises(Unavailable, match="302: redirects are not followed"):
            send(hook.url)
        with pytest.raises(Unavailable, match="answered 500"):
            send(hook.url)
    assert len(hook.got) == 2


def test_answer_that_drips_is_cut_off_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        is_over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    while not is_over.wait(0.05):
                        connection.sendall(b"H")
                except OSError:
                    pass

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(Unavailable, match="does not take it"):
            send(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.3)
        is_over.set()
        thread.join()


def test_https_checks_the_certificate() -> None:
    with listening(Hook()) as hook, pytest.raises(Unavailable, match="does not take it"):
        send(hook.url.replace("http://", "https://"), timeout_s=1.0)
    assert hook.got == []


def test_nothing_goes_out_unsigned() -> None:
    with listening(Hook()) as hook, pytest.raises(Unavailable, match="RLHF_WEBHOOK_SECRET"):
        send(hook.url, Settings(webhook_allow_private=True))
    assert hook.got == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/", "file:///etc/passwd", "//a.example/", "https://", "a.example",
        "https://user:pass@a.example/", "https://a.example/\r\nHost: b", "https://a.example/ b",
        "https://a.example:99999/", "https://a.example:0/", "https://ä.example/",
        f"https://a.example/{'x' * 500}", "http://[::1/",
    ],
)  # fmt: skip
def test_what_is_no_webhook_is_refused_when_it_is_typed(url: str) -> None:
    with pytest.raises(InvalidInput):
        Channels(webhooks=(url,))


@pytest.mark.parametrize(
    "address", ["a", "a@", "a@b c", "a@b\r\nBcc: c@d", "<a@b.example>", "a,b@c"]
)
def test_what_is_no_address_is_refused_when_it_is_typed(address: str) -> None:
    with pytest.raises(InvalidInput, match="no e-mail address"):
        Channels(emails=(address,))


def test_addresses_are_read_from_a_line_each_once() -> None:
    assert split_targets(" a@b.c, d@e.f;a@b.c\ng@h.i ") == ("a@b.c", "d@e.f", "g@h.i")
    assert split_targets("  ") == ()
