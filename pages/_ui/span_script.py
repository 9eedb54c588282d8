"""What the browser runs to tag passages: see `span_marker`."""

HTML = """
<div class="rl-spans">
  <div class="rl-head">
    <strong>Completion</strong>
    <span class="rl-hint" aria-live="polite"></span>
    <button type="button" class="rl-mark" disabled>Mark a passage
      <kbd aria-label="Shortcut M">M</kbd></button>
  </div>
  <div class="rl-text" dir="auto"></div>
  <div class="rl-tool" role="group" aria-label="Tag the selected passage" hidden>
    <input type="text" maxlength="2000" placeholder="Note (optional)"
      aria-label="Note on the passage">
    <div class="rl-tags"></div>
  </div>
  <ul class="rl-list"></ul>
</div>
"""

CSS = """
.rl-spans { color: var(--st-text-color); font-family: var(--st-font); }
.rl-head { display: flex; align-items: center; gap: 0.75rem; min-height: 1.9rem; }
.rl-hint { flex: 1; font-size: 0.85rem; opacity: 0.75; }
.rl-text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; font-size: 1rem;
  margin-top: 0.35rem; unicode-bidi: plaintext; text-align: start; border-radius: 4px; }
.rl-text[contenteditable] { outline: 2px solid var(--st-primary-color); outline-offset: 4px; }
.rl-text mark { color: inherit; border-bottom: 2px solid currentColor; border-radius: 2px; }
.rl-spans button { font: inherit; font-size: 0.85rem; color: inherit; background: transparent;
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius);
  padding: 0.15rem 0.6rem; cursor: pointer; white-space: nowrap; }
.rl-spans button:hover { border-color: var(--st-primary-color); }
.rl-spans button:focus-visible, .rl-spans input:focus-visible {
  outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
.rl-spans kbd { font: inherit; font-size: 0.8rem; opacity: 0.75; margin-left: 0.25rem; }
.rl-tool { position: sticky; bottom: 6rem; z-index: 5; margin-top: 0.5rem; padding: 0.6rem;
  display: flex; flex-direction: column; gap: 0.5rem; background: var(--st-background-color);
  border: 1px solid var(--st-primary-color); border-radius: var(--st-base-radius); }
.rl-tool[hidden], .rl-list:empty { display: none; }
.rl-tool input { font: inherit; font-size: 0.9rem; color: inherit; padding: 0.3rem 0.5rem;
  background: var(--st-secondary-background-color); border: 1px solid var(--st-border-color);
  border-radius: 4px; }
.rl-tool input::placeholder { color: inherit; opacity: 0.75; }
.rl-tags { display: flex; flex-wrap: wrap; gap: 0.35rem; }
.rl-list { list-style: none; margin: 0.75rem 0 0; padding: 0; display: flex;
  flex-direction: column; gap: 0.3rem; }
.rl-list li { display: flex; align-items: baseline; gap: 0.5rem; font-size: 0.88rem; margin: 0; }
.rl-list .rl-tag { font-weight: 600; padding: 0 0.35rem; border-radius: 4px; }
.rl-list .rl-said { flex: 1; min-width: 0; overflow-wrap: anywhere; unicode-bidi: plaintext; }
"""

JS = """
const QUOTE = 60;

// characters as Python counts them, not UTF-16 units
const points = (text) => Array.from(text);

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function build(root) {
  const part = (name) => root.querySelector(name);
  const text = part('.rl-text'), tool = part('.rl-tool'), note = part('.rl-tool input');
  const hint = part('.rl-hint');
  let data = null, tell = () => {}, chosen = null, pressed = false, timer = 0;

  const colour = (tag) => {
    const known = data.tags.find(([name]) => name === tag);
    return `var(--st-${known ? known[1] : 'gray'}-background-color)`;
  };

  function drawText() {
    const all = points(data.text);
    const edges = new Set([0, all.length]);
    for (const { start, end } of data.spans) {
      edges.add(Math.min(start, all.length));
      edges.add(Math.min(end, all.length));
    }
    const cuts = [...edges].sort((one, other) => one - other);
    const pieces = [];
    for (let number = 0; number + 1 < cuts.length; number += 1) {
      const [from, to] = [cuts[number], cuts[number + 1]];
      const piece = all.slice(from, to).join('');
      const over = data.spans.filter(({ start, end }) => start < to && end > from);
      if (!over.length) {
        pieces.push(document.createTextNode(piece));
        continue;
      }
      const mark = make('mark', '', piece);
      mark.style.background = colour(over[over.length - 1].tag);
      mark.title = over.map(({ tag, note }) => (note ? `${tag}: ${note}` : tag)).join(', ');
      pieces.push(mark);
    }
    text.replaceChildren(...pieces);
    text.classList.toggle('rl-cut', data.isCut);
  }

  function drawList() {
    const all = points(data.text);
    part('.rl-list').replaceChildren(...data.spans.map((span) => {
      const line = make('li');
      const tag = make('span', 'rl-tag', span.tag);
      tag.style.background = colour(span.tag);
      let quote = all.slice(span.start, span.end).join('');
      if (points(quote).length > QUOTE) quote = points(quote).slice(0, QUOTE).join('') + ' …';
      const said = make('span', 'rl-said', `“${quote}”${span.note ? ' · ' + span.note : ''}`);
      said.dir = 'auto';
      const remove = make('button', '', 'Remove');
      remove.type = 'button';
      remove.setAttribute('aria-label', `Remove the tag ${span.tag}`);
      remove.onclick = () => tell('removed', span);
      line.append(tag, said, remove);
      return line;
    }));
  }

  function drawTags() {
    const buttons = data.tags.map(([tag], number) => {
      const button = make('button', '', tag);
      button.type = 'button';
      button.style.background = colour(tag);
      button.append(make('kbd', '', String(number + 1)));
      button.onclick = () => add(tag);
      return button;
    });
    const cancel = make('button', '', 'Cancel');
    cancel.type = 'button';
    cancel.append(make('kbd', '', 'Esc'));
    cancel.onclick = close;
    part('.rl-tags').replaceChildren(...buttons, cancel);
  }

  function selected() {
    const selection = window.getSelection();
    if (!selection || selection.isCollapsed || !selection.rangeCount) return null;
    const range = selection.getRangeAt(0);
    if (!text.contains(range.startContainer) || !text.contains(range.endContainer)) return null;
    const before = document.createRange();
    before.selectNodeContents(text);
    before.setEnd(range.startContainer, range.startOffset);
    const start = points(before.toString()).length;
    const end = start + points(range.toString()).length;
    return end > start ? { start, end } : null;
  }

  function open(byKeys) {
    chosen = selected();
    if (!chosen) return;
    note.value = '';
    tool.hidden = false;
    tool.setAttribute('data-keys-held', '');
    if (byKeys) part('.rl-tags button').focus();
  }

  function close() {
    const hadFocus = tool.contains(document.activeElement);
    tool.hidden = true;
    tool.removeAttribute('data-keys-held');
    chosen = null;
    if (hadFocus) part('.rl-mark').focus();
  }

  function add(tag) {
    if (!chosen) return;
    const span = { ...chosen, tag, note: note.value.trim() };
    close();
    stopMarking();
    window.getSelection()?.removeAllRanges();
    tell('added', span);
  }

  function startMarking() {
    // a caret for the keyboard: nothing can be typed into it
    text.setAttribute('contenteditable', 'true');
    text.setAttribute('role', 'textbox');
    text.setAttribute('aria-readonly', 'true');
    text.setAttribute('aria-multiline', 'true');
    text.setAttribute('aria-label', 'Completion');
    text.setAttribute('inputmode', 'none');
    text.spellcheck = false;
    text.focus();
    const range = document.createRange();
    range.setStart(text, 0);
    window.getSelection()?.removeAllRanges();
    window.getSelection()?.addRange(range);
    hint.textContent = 'Shift and arrows select, Enter tags, Esc ends';
  }

  function stopMarking() {
    for (const name of ['contenteditable', 'role', 'aria-readonly', 'aria-multiline', 'aria-label',
      'inputmode']) text.removeAttribute(name);
    hint.textContent = '';
  }

  const refuse = (event) => { if (event.cancelable) event.preventDefault(); };
  text.addEventListener('beforeinput', refuse);
  text.addEventListener('paste', refuse);
  text.addEventListener('drop', refuse);
  part('.rl-mark').onclick = () => (text.isContentEditable ? stopMarking() : startMarking());
  part('.rl-mark').disabled = false;  // until now a click did nothing

  function onKey(event) {
    const isMarking = text.isContentEditable && text.contains(document.activeElement);
    if (event.key === 'Escape' && (!tool.hidden || isMarking)) {
      if (!tool.hidden) close();
      else stopMarking();
      part('.rl-mark').focus();
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    if (isMarking && tool.hidden) {
      if (event.key === 'Enter') {
        event.preventDefault();
        open(true);
      }
      return;
    }
    if (tool.hidden || event.target === note) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tag = data.tags[Number(event.key) - 1];
    if (tag) add(tag[0]);
    if (event.key.length === 1 && event.key !== ' ') {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }

  function onSelection() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (pressed || text.isContentEditable || tool.contains(document.activeElement)) return;
      if (selected()) open(false);
      else if (!tool.hidden) close();
    }, 200);
  }
  const onDown = () => { pressed = true; };
  const onUp = () => { pressed = false; onSelection(); };

  return {
    update(fresh, send) {
      const isNew = JSON.stringify(fresh) !== JSON.stringify(data);
      data = fresh;
      tell = send;
      if (!isNew) return;
      if (!tool.hidden) close();
      drawText();
      drawList();
      drawTags();
    },
    listen() {
      window.addEventListener('keydown', onKey, true);
      document.addEventListener('selectionchange', onSelection);
      window.addEventListener('pointerdown', onDown, true);
      window.addEventListener('pointerup', onUp, true);
    },
    leave() {
      window.removeEventListener('keydown', onKey, true);
      document.removeEventListener('selectionchange', onSelection);
      window.removeEventListener('pointerdown', onDown, true);
      window.removeEventListener('pointerup', onUp, true);
    },
  };
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector('.rl-spans');
  root.marker ??= build(root);
  root.marker.listen();
  root.marker.update(data, setTriggerValue);
  return () => root.marker.leave();
}
"""
