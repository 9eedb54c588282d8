"""What the browser sees to while somebody rates by keys; Streamlit's own shortcuts know none of it.

- A key belongs to the item that was on screen when it was pressed. While the page is on its way to
  its next state a key waits; where another item shows then, a judgement is dropped with a word, and
  a way (undo, back, on) still goes.
- A key held down, and the second click of a double click, count once.
- Keys are dead while a dialog is open or a passage is being tagged. A radio button in focus takes
  arrows only.
- Esc leaves a text box. What is typed is handed over at each pause, and before the page goes.
- Another item shows from its beginning, and the focus follows where its button is gone.
"""

from typing import Any

import streamlit as st

MOVES = ("u", "arrowleft", "arrowright", "w", "s")
"""Keys that judge nothing: they are as good on the next item."""
FOCUS = "rating_focus"

_component: Any = st.components.v2.component(
    "rlhf_rating_guard",
    html='<div class="rl-early" role="status"></div>\n',
    css="""
.rl-early { position: fixed; left: 50%; bottom: 6.5rem; transform: translateX(-50%); z-index: 99;
  max-width: 90vw; padding: 0.4rem 0.9rem; border-radius: var(--st-base-radius);
  color: var(--st-background-color); background: var(--st-text-color); font-size: 0.9rem; }
.rl-early:empty { display: none; }
.st-key-judged:focus { outline: none; }
[data-testid="stMainBlockContainer"]:has(.st-key-judged) { padding: 4rem 2.5rem 1rem; }
[data-testid="stBottomBlockContainer"]:has(.st-key-keys) { padding: 0.6rem 2.5rem 0.9rem; }
.st-key-aspects [data-testid="stElementContainer"] { width: 100%; }
.st-key-aspects [data-testid="stButtonGroup"] { display: flex; flex-direction: row; width: 100%;
  align-items: center; gap: 0.75rem; }
.st-key-aspects [data-testid="stWidgetLabel"] { margin: 0; min-height: 0; flex: 1; min-width: 0;
  overflow-wrap: anywhere; }
.st-key-aspects [role="radio"][aria-checked="true"] { color: inherit; font-weight: 600; }
[class*="st-key-step_now"] { border-color: var(--st-primary-color, #3b6cf0) !important;
  scroll-margin: 4.5rem 0 7rem; }
@media (min-width: 641px) {
  [data-testid="stColumn"]:has(> div .st-key-tools) { position: sticky; top: 4rem;
    align-self: flex-start; max-height: calc(100vh - 9.5rem); overflow-y: auto;
    padding: 2px; }
}
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"]:has(.st-key-judged),
  [data-testid="stBottomBlockContainer"]:has(.st-key-keys) { padding-left: 1rem;
    padding-right: 1rem; }
  .st-key-keys button { padding: 0.25rem 0.5rem; min-height: 2.5rem; }
  .st-key-keys { gap: 0.4rem; }
}
@media (max-width: 640px) and (pointer: coarse) {  /* a phone has no keys */
  .st-key-keys kbd, [class*="st-key-target_"] { display: none; }
}
""",
    js="""
const SIGNS = { arrowleft: '\\u2190', arrowright: '\\u2192' };
// what the browser loads late: it draws the rest before it
const LATE = {
  t: { at: '.st-key-texts', part: 'textarea', act: 'focus' },
  m: { at: '[class*="st-key-spans_"]', part: '.rl-mark:enabled', act: 'click' },
};
const PAUSE_MS = 900, TOLD_MS = 5000, NO_RUN_MS = 400, MAX_WAITING = 20;

function create() {
  let data = null, status = null, locked = false, ran = false, timer = 0, told = 0, pause = 0;
  const waiting = [];

  const app = () => document.querySelector('[data-testid="stApp"]');
  const isRunning = () => app()?.dataset.testScriptState !== 'notRunning';
  const buttonOf = (key) => document.querySelector(
    `kbd[aria-label="Shortcut ${SIGNS[key] ?? key.toUpperCase()}"]`)?.closest('button');
  // what is drawn, not what we were told of last: the keys are alive as soon as they are drawn
  const onScreen = () => document.querySelector('.st-key-keys [class*="st-key-back_"]')
    ?.className.match(/st-key-back_(\\S+)/)?.[1];
  const openDialog = () => [...document.querySelectorAll('[role="dialog"], [aria-modal="true"]')]
    .find((box) => box.offsetParent !== null || getComputedStyle(box).position === 'fixed');

  function isTyping(event, key) {
    const target = event.composedPath()[0];
    if (target.isContentEditable) return true;
    if (['TEXTAREA', 'SELECT'].includes(target.tagName)) return true;
    if (target.closest?.('[role="slider"], [role="radiogroup"]') && key.startsWith('arrow')) {
      return true;
    }
    return target.tagName === 'INPUT' && !['radio', 'checkbox'].includes(target.type);
  }

  function press(button) {
    locked = true;
    ran = false;
    clearTimeout(timer);
    timer = setTimeout(() => { if (!isRunning()) settle(); }, NO_RUN_MS);
    button.click();
  }

  function reach(late, tries = 40) {
    const part = late.place.querySelector(late.part);
    if (part) part[late.act]();
    else if (tries) setTimeout(reach, 50, late, tries - 1);
  }

  function settle() {
    clearTimeout(timer);
    timer = setTimeout(next, 20);  // what has come is drawn by then
  }

  function next() {
    if (isRunning()) return;
    locked = false;
    while (waiting.length && !locked) {
      const { key, item } = waiting.shift();
      if (item !== onScreen() && !data?.moves.includes(key)) {
        say('Not counted: the next item was not on screen yet.');
        continue;
      }
      const button = openDialog() ? null : buttonOf(key);
      if (button && !button.disabled) press(button);
    }
  }

  function say(text) {
    if (status) status.textContent = text;
    clearTimeout(told);
    told = setTimeout(() => { if (status) status.textContent = ''; }, TOLD_MS);
  }

  function onKey(event) {
    const key = event.key?.toLowerCase() ?? '';
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector('[data-keys-held]')) return;
    if (key === 'escape' && event.target.tagName === 'TEXTAREA') event.target.blur();
    if (!/^([a-z0-9]|arrowleft|arrowright)$/.test(key) || isTyping(event, key)) return;
    const button = buttonOf(key), dialog = openDialog();
    const isThere = button && !button.disabled;
    const late = isThere ? null : LATE[key], place = late && document.querySelector(late.at);
    if (!button && !place) return;
    if (dialog && dialog.contains(button)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.repeat || dialog) return;
    if (place) reach({ ...late, place });
    else if (!locked && !isRunning()) press(button);
    else if (waiting.length < MAX_WAITING) waiting.push({ key, item: onScreen() });
  }

  function onClick(event) {
    if (event.detail > 1 && event.target.closest?.('.st-key-keys, .st-key-steps')) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }

  // Streamlit takes a text over when its box is left: leave it for an instant
  function handOver(box) {
    clearTimeout(pause);
    box.dispatchEvent(new FocusEvent('focusout', { bubbles: true }));
    if (document.activeElement === box) {
      box.dispatchEvent(new FocusEvent('focusin', { bubbles: true }));
    }
  }
  const isOurs = (box) => box?.tagName === 'TEXTAREA' && box.closest('[class*="st-key-texts"]');
  function onInput(event) {
    clearTimeout(pause);
    if (isOurs(event.target) && !event.isComposing) {
      pause = setTimeout(() => handOver(event.target), PAUSE_MS);
    }
  }
  function onLeave() {
    if (isOurs(document.activeElement)) handOver(document.activeElement);
  }

  const watcher = new MutationObserver(() => {
    if (isRunning()) ran = true;
    else if (ran || waiting.length) settle();
  });

  return {
    show(fresh, root) {
      const former = data;
      data = fresh;
      status = root.querySelector('.rl-early');
      status.dataset.ready = '';
      if (former && former.item !== fresh.item) {
        document.querySelector('[data-testid="stMain"]')?.scrollTo({ top: 0 });
        const judged = document.querySelector('.st-key-judged');
        if (judged && (!document.activeElement || document.activeElement === document.body)) {
          judged.tabIndex = -1;
          judged.focus({ preventScroll: true });
        }
      } else if (former && former.step !== fresh.step) {
        document.querySelector('[class*="st-key-step_now"]')?.scrollIntoView({ block: 'nearest' });
      }
      if (fresh.focus && fresh.focus.number !== former?.focus?.number) {
        setTimeout(() => document.querySelector(fresh.focus.at)?.focus(), 50);
      }
    },
    listen() {
      window.addEventListener('keydown', onKey, true);
      window.addEventListener('click', onClick, true);
      window.addEventListener('input', onInput, true);
      window.addEventListener('beforeunload', onLeave);
      if (app()) watcher.observe(app(), { attributeFilter: ['data-test-script-state'] });
    },
    stop() {
      window.removeEventListener('keydown', onKey, true);
      window.removeEventListener('click', onClick, true);
      window.removeEventListener('input', onInput, true);
      window.removeEventListener('beforeunload', onLeave);
      watcher.disconnect();
    },
  };
}

export default function ({ data, parentElement }) {
  const guard = (window.rlhfRatingGuard ??= create());
  guard.listen();
  guard.show(data, parentElement);
  return () => {
    guard.stop();
    delete window.rlhfRatingGuard;
  };
}
""",
    isolate_styles=False,
)


def guard_keys(item: str, *, step: int | None = None) -> None:
    """See to the keys of this page. `item` names what is on screen, `step` the current step.

    `st.session_state[FOCUS]` may name (as a CSS selector) what gets the focus once.
    """
    at = st.session_state.pop(FOCUS, None)
    if at is not None:
        number = st.session_state.get("rating_focus_number", 0) + 1
        st.session_state["rating_focus_number"] = number
        st.session_state["rating_focus_last"] = {"at": at, "number": number}
    focus = st.session_state.get("rating_focus_last")
    _component(
        data={"item": item, "step": step, "moves": MOVES, "focus": focus},
        key="rating_guard",
        width=1,
        height=1,
    )
