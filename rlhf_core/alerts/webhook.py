"""Send a signed message to an address that somebody typed, and reach nothing inside with it.

The name is resolved once, every address of it is looked at, and the connection goes to the address
that was looked at: a name that changes its address meanwhile leads nowhere else. No redirect is
followed, no proxy is used, and what is answered is not shown.
"""

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import SplitResult

from rlhf_core.alerts.channels import parse_webhook
from rlhf_core.config import Settings
from rlhf_core.errors import Unavailable

SIGNATURE_HEADER = "X-RLHF-Signature"
TIMESTAMP_HEADER = "X-RLHF-Timestamp"
DELIVERY_HEADER = "X-RLHF-Delivery"
TIMEOUT_S = 10.0
"""From the connection to the answer's head, however slowly it drips."""
MAX_ADDRESSES = 3

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Protocol assignments and anycast relays to 6to4: here and there called global, nobody's webhook.
_SPECIAL = tuple(ipaddress.ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24"))


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """`v1=` and the hexadecimal HMAC-SHA256 of `<timestamp>.<body>`."""
    message = f"{timestamp}.".encode() + body
    return f"v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


def send_webhook(
    url: str,
    content: dict[str, Any],
    *,
    delivery: str,
    settings: Settings,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """POST `content` as JSON. `delivery` is the same each time a message is tried again.

    Raises Unavailable, with a sentence, where it is not answered with 2xx.
    """
    if not settings.webhook_secret:
        raise Unavailable("RLHF_WEBHOOK_SECRET is not set: webhooks are sent signed or not at all.")
    parts = parse_webhook(url)
    body = json.dumps(content, ensure_ascii=False).encode()
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "rlhf-loop",
        TIMESTAMP_HEADER: str(now),
        SIGNATURE_HEADER: sign(settings.webhook_secret, now, body),
        DELIVERY_HEADER: delivery,
        "Connection": "close",
    }
    addresses = find_addresses(parts, allow_private=settings.webhook_allow_private)
    try:
        status = _post(parts, addresses, body, headers, timeout_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = str(error) or type(error).__name__
        raise Unavailable(f"{parts.hostname} does not take it ({said[:200]}).") from error
    if 300 <= status < 400:
        raise Unavailable(f"{parts.hostname} answered {status}: redirects are not followed.")
    if not 200 <= status < 300:
        raise Unavailable(f"{parts.hostname} answered {status}.")


def find_addresses(parts: SplitResult, *, allow_private: bool) -> list[tuple[str, int]]:
    """Addresses and port to connect to. Raises Unavailable where any of them is a private one."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"The name {host} is not known.") from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if not allow_private and not all(map(is_public, addresses)):
        raise Unavailable(
            f"{host} is a private address; webhooks go to public ones only "
            "(RLHF_WEBHOOK_ALLOW_PRIVATE allows others)."
        )
    if not addresses:
        raise Unavailable(f"The name {host} has no address.")
    return [(address, port) for address in addresses[:MAX_ADDRESSES]]


def is_public(text: str) -> bool:
    """Whether an IP address is one of the internet, also where it wraps another."""
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and (address.teredo is not None or address.is_site_local):
            return False
        if inner is not None:
            address = inner
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _post(
    parts: SplitResult,
    addresses: list[tuple[str, int]],
    body: bytes,
    headers: dict[str, str],
    timeout_s: float,
) -> int:
    """The status of the answer."""
    host = parts.hostname or ""
    opened = [_connect(addresses, timeout_s)]
    # The time limit of a socket is that of one read: an answer of a byte a second would take hours.
    watchdog = threading.Timer(timeout_s, lambda: _cut(opened[-1]))
    watchdog.daemon = True
    connection = http.client.HTTPConnection(host, parts.port)
    try:
        watchdog.start()
        if parts.scheme == "https":
            secure = ssl.create_default_context()
            wrapped = secure.wrap_socket(
                opened[0], server_hostname=host, do_handshake_on_connect=False
            )
            opened.append(wrapped)
            wrapped.do_handshake()
        connection.sock = opened[-1]
        target = parts.path or "/"
        connection.request("POST", f"{target}?{parts.query}" if parts.query else target, body,
                           headers)  # fmt: skip
        with connection.getresponse() as answer:
            return answer.status
    finally:
        watchdog.cancel()
        connection.close()
        opened[-1].close()


def _connect(addresses: list[tuple[str, int]], timeout_s: float) -> socket.socket:
    """To the first that answers: a machine without IPv6 reaches the others."""
    for address in addresses[:-1]:
        try:
            return socket.create_connection(address, timeout=timeout_s)
        except OSError:
            continue
    return socket.create_connection(addresses[-1], timeout=timeout_s)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
