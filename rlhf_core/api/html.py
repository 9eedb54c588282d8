"""The frame of the few pages that are served outside of Streamlit. No script, nothing from afar."""

import html
from urllib.parse import quote

STYLE = """
:root { color-scheme: light dark; --back: #f4f6fa; --card: #fff; --ink: #101828; --soft: #475467;
  --line: #d5dbe6; --edge: #7a869c; --main: #2457d6; --link: #2457d6; --bad: #b42318;
  --bad-back: #fef3f2; --code: #eef1f7 }
@media (prefers-color-scheme: dark) { :root { --back: #10141c; --card: #1a202c; --ink: #e6eaf2;
  --soft: #a8b3c7; --line: #344054; --edge: #7c8aa5; --main: #3b6cf0; --link: #8fb3ff;
  --bad: #fda29b; --bad-back: #3a1d1b; --code: #252d3d } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
a { color: var(--link) }
h1 { font-size: 1.35rem; margin: 0 }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem }
code, pre { font: .87em/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace }
code { background: var(--code); border-radius: 4px; padding: .1em .35em; overflow-wrap: anywhere }
.soft { color: var(--soft) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px }
.centre { min-height: 100vh; display: grid; place-items: center; padding: 1.5rem }
.centre .card { width: 100%; max-width: 25rem; padding: 2.25rem 2rem;
  box-shadow: 0 1px 2px #1018280d, 0 12px 32px #10182814 }
.brand { display: flex; gap: .75rem; align-items: center; margin-bottom: .35rem }
.brand svg { flex: none }
label { display: block; font-weight: 600; margin: 1.1rem 0 .35rem }
input { width: 100%; font: inherit; color: inherit; background: var(--card); padding: .6rem .75rem;
  border: 1px solid var(--edge); border-radius: 8px }
button { width: 100%; margin-top: 1.5rem; font: inherit; font-weight: 600; color: #fff;
  background: var(--main); border: 0; border-radius: 8px; padding: .7rem 1rem; cursor: pointer }
button:hover { filter: brightness(1.08) }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
[role=alert] { background: var(--bad-back); color: var(--bad); border-radius: 8px;
  padding: .65rem .85rem; margin: 1.1rem 0 0 }
.hint { border-top: 1px solid var(--line); margin: 1.75rem 0 0; padding-top: 1.1rem;
  font-size: .9rem }
.page { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem }
.route { margin: 0 0 1rem; padding: 1.1rem 1.25rem }
.route h3 { font-size: 1rem; margin: 0 0 .4rem; font-weight: 600 }
.verb { font-weight: 700; margin-right: .5rem }
table { border-collapse: collapse; width: 100%; margin: .75rem 0 0; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-top: 1px solid var(--line) }
"""
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32" viewBox="0 0 24 24" '
    'fill="none" stroke="#3b6cf0" stroke-width="2.6" stroke-linecap="round" '
    'stroke-linejoin="round"><path d="M4 12a8 8 0 0 1 13.7-5.6L20 8.5"/><path d="M20 4v4.5h-4.5"/>'
    '<path d="M20 12a8 8 0 0 1-13.7 5.6L4 15.5"/><path d="M4 20v-4.5h4.5"/></svg>'
)


ICON = f"data:image/svg+xml,{quote(LOGO)}"


def render_page(title: str, body: str) -> str:
    """A whole HTML page; `title` is text, `body` is HTML whose texts are escaped already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><link rel="icon" href="{ICON}">'
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )
