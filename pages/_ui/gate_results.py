"""What the rules say of a version: pass, fail or not measured, with the numbers."""

import uuid
from collections.abc import Sequence
from typing import Literal

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor
from rlhf_core.gates.rules import SPECS
from rlhf_core.gates.service import check_gates
from rlhf_core.gates.views import GateResult, list_blocking
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import GateState

_CHECKED = "gates_checked"  # (version id, of a share, to roll back, what was found) of this tab
Color = Literal["green", "red", "orange", "gray"]


def read_results(
    version_id: uuid.UUID, actor: Actor, *, for_share: bool = False, to_roll_back: bool = False
) -> tuple[GateResult, ...]:
    """What the rules say; kept until something else is asked about or `forget_results`.

    Every byte of the files is read, which a rerun at each key cannot wait for. A move asks anew.
    """
    asked = (version_id, for_share, to_roll_back)
    known = st.session_state.get(_CHECKED)
    if known is None or known[:-1] != asked:
        with st.spinner("Checking the rules"), get_store().reading() as db:
            results = check_gates(
                db, version_id, actor=actor, for_share=for_share, to_roll_back=to_roll_back
            )
        known = st.session_state[_CHECKED] = (*asked, results)
    results: tuple[GateResult, ...] = known[-1]
    return results


def forget_results() -> None:
    """Ask the rules anew next time; also a callback."""
    st.session_state.pop(_CHECKED, None)


def show_results(results: Sequence[GateResult], *, key: str) -> None:
    """What blocks and what warns first; the rules that are kept lie folded below."""
    kept = [result for result in results if result.state is GateState.PASS]
    rest = [result for result in results if result.state is not GateState.PASS]
    for result in sorted(rest, key=lambda one: (not one.blocks, one.state is not GateState.FAIL)):
        _show(result)
    if kept:
        title = f"{len(kept)} of {len(results)} rules are kept"
        with st.expander(title, icon=":material/check_circle:", key=f"{key}_kept"):
            for result in kept:
                _show(result)
    if not results:
        st.caption("No rule is on for such a model.")


def summarize(results: Sequence[GateResult]) -> str:
    """In one line, our own words: how many block, warn, are not measured, pass."""
    num_blocking = len(list_blocking(results))
    open_ones = [one for one in results if not one.blocks]
    num_warning = sum(one.state is GateState.FAIL for one in open_ones)
    num_unknown = sum(one.state is GateState.NOT_MEASURED for one in open_ones)
    num_kept = sum(one.state is GateState.PASS for one in results)
    parts = [
        f"{count} {word}"
        for count, word in (
            (num_blocking, "block"),
            (num_warning, "warn"),
            (num_unknown, "not measured"),
            (num_kept, "kept"),
        )
        if count
    ]
    return f"Rules: {', '.join(parts) or 'none'}."


def show_gates(version: ModelVersionView, actor: Actor, *, key: str = "gates") -> None:
    """The rules' word on a version, on demand: it takes as long as reading its files."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}_head"):
        wants = st.button(
            "Check the rules", icon=":material/rule:", key=f"{key}_check", on_click=forget_results
        )
        st.page_link("pages/models/gates.py", label="The rules", icon=":material/tune:")
    known = st.session_state.get(_CHECKED)
    if not wants and (known is None or known[:-1] != (version.id, False, False)):
        st.caption("Shows what each rule says of this version, with its numbers.")
        return
    results = read_results(version.id, actor)
    st.caption(summarize(results))
    show_results(results, key=key)


def _show(result: GateResult) -> None:
    word, icon, color = _badge_of(result)
    with st.container(gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(word, icon=icon, color=color)
            st.markdown(f"**{SPECS[result.kind].title}**", width="content")
        st.caption(plain(result.sentence))


def _badge_of(result: GateResult) -> tuple[str, str, Color]:
    match result.state:
        case GateState.PASS:
            return "Pass", ":material/check:", "green"
        case GateState.FAIL:
            if result.blocks:
                return "Fail", ":material/block:", "red"
            return "Fail, warns", ":material/warning:", "orange"
        case GateState.NOT_MEASURED:
            if result.blocks:
                return "Not measured, blocks", ":material/block:", "red"
            return "Not measured", ":material/help:", "gray"
