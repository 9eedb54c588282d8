"""What a page says: errors, empty places, and text of others made harmless."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import streamlit as st
from streamlit.errors import StreamlitAPIException

from rlhf_core.errors import (
    Conflict,
    Forbidden,
    NotEnoughData,
    NotFound,
    RlhfError,
    Unavailable,
)

JOINER = "\u2060"  # no width, no line break: it only keeps two characters from meaning something

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
_AUTOLINK = re.compile(r"(www)(\.)|([:@])(?=\S)", re.IGNORECASE)


def plain(text: str) -> str:
    """Text from outside as Markdown that shows exactly the text: no link, image, HTML or formula.

    Every label, caption, toast and table cell of Streamlit reads Markdown, and an image in it is
    fetched without a click. Punctuation becomes character references, which Markdown never reads as
    structure. Addresses and `:codes:` are recognised later, in the finished text, so a joiner
    breaks them. Not for inside code marks; for long texts use `st.text`.
    """
    text = _AUTOLINK.sub(lambda m: f"{m[1] or m[3]}{JOINER}{m[2] or ''}", text)
    text = _INDENT.sub(lambda m: "\u00a0" * len(m[0]), text)
    return _PUNCTUATION.sub(lambda m: f"&#{ord(m[0])};", text)


def show_error(error: RlhfError) -> None:
    """Show an expected failure as one sentence."""
    match error:
        case Conflict() | NotFound() | NotEnoughData():
            st.warning(plain(str(error)), icon=":material/info:")
        case Forbidden():
            st.error(plain(str(error)), icon=":material/lock:")
        case Unavailable():
            st.error(plain(str(error)), icon=":material/cloud_off:")
        case _:
            st.error(plain(str(error)), icon=":material/error:")


@contextmanager
def reporting() -> Iterator[None]:
    """Show an expected failure of the `with` block, and go on after it."""
    try:
        yield
    except RlhfError as error:
        show_error(error)


def empty_state(
    title: str,
    hint: str,
    *,
    icon: str = ":material/inbox:",
    page: str | None = None,
    page_label: str | None = None,
) -> None:
    """What a page shows where there is nothing yet: what is missing, and the way to it.

    `title` and `hint` are our own words (Markdown); `page` is a page's file, such as
    `pages/admin/transfer.py`, linked with `page_label` if this person may open it.
    """
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.space("small")
        st.markdown(f"**{icon} {title}**", width="content", text_alignment="center")
        st.caption(hint, width="content", text_alignment="center")
        if page is not None:
            with suppress(StreamlitAPIException):  # raised where this role has no such page
                st.page_link(
                    page, label=page_label, icon=":material/arrow_forward:", width="content"
                )
        st.space("small")
