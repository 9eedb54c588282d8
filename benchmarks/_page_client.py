"""A browser tab as the server sees it: Streamlit's websocket, spoken without a browser.

It keeps what a browser keeps (the address, the buttons on screen, messages sent by their hash) and
presses buttons; a press is done when the script has finished and all it drew has arrived.
"""

import http.client
import re
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

MAX_MESSAGE_BYTES = 64 << 20
WAIT_S = 60.0


def sign_in(port: int, secret: str) -> str:
    """The session cookie that a sign-in link gives."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    connection.request("GET", f"/login?token={secret}")
    cookie = connection.getresponse().getheader("set-cookie")
    connection.close()
    if cookie is None:
        raise SystemExit("the server took no sign-in link")
    return cookie.partition(";")[0]


class Tab:
    """One tab on one page, e.g. `rate`, with its query string."""

    def __init__(self, port: int, cookie: str, page: str, query: str = "") -> None:
        self._origin = f"http://127.0.0.1:{port}"
        self._cookie = cookie
        self._page = page
        self.query = query
        self.buttons: dict[str, str] = {}
        self.drawn: Counter[str] = Counter()  # elements by kind, over all runs
        self._messages: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        import websockets

        self._socket = await websockets.connect(
            self._origin.replace("http", "ws") + "/_stcore/stream",
            origin=self._origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": self._cookie},
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._socket.close()

    async def run(self, pressed: str | None = None) -> float:
        """Run the page, with the button of this key pressed; how many seconds until all is here.

        Raises SystemExit where the script ended in an exception, or no such button is on screen.
        """
        from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: TID251 - its protocol only

        message = BackMsg()
        message.rerun_script.query_string = self.query
        message.rerun_script.page_name = self._page
        if pressed is not None:
            state = message.rerun_script.widget_states.widgets.add()
            state.id = self.find_button(pressed)
            state.trigger_value = True
        started = time.perf_counter()
        await self._socket.send(message.SerializeToString())
        self.buttons.clear()
        while not self._take(await self._socket.recv()):
            pass
        return time.perf_counter() - started

    def find_button(self, key: str) -> str:
        """The id of the button on screen whose key begins like this."""
        for shown, own in self.buttons.items():
            if shown.startswith(key):
                return own
        raise SystemExit(f"no button {key} on screen: {sorted(self.buttons)}")

    def _take(self, data: bytes | str) -> bool:
        """Note what a message says; whether the script has finished with it."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: TID251

        message = ForwardMsg()
        message.ParseFromString(data if isinstance(data, bytes) else data.encode())
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            message = self._messages[message.ref_hash]
            kind = message.WhichOneof("type")
        elif message.metadata.cacheable and message.hash:
            self._messages[message.hash] = message
        if kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            self.drawn[element.WhichOneof("type")] += 1
            if element.WhichOneof("type") == "exception":
                raise SystemExit(f"the page failed: {element.exception.message}")
            if element.WhichOneof("type") == "button":
                match = re.match(r"\$\$ID-[0-9a-f]+-(.+)$", element.button.id)
                if match is not None:
                    self.buttons[match[1]] = element.button.id
        return kind == "script_finished" and (
            message.script_finished == message.FINISHED_SUCCESSFULLY
        )
