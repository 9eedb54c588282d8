"""The code of the README's section "Integrate", as it is printed there."""

import re

from rlhf_core.config import SOURCE_ROOT

README = SOURCE_ROOT / "README.md"


def read_integration(language: str, mark: str) -> str:
    """The block in this language that holds `mark`."""
    text = README.read_text(encoding="utf-8")
    section = text.split("\n## Integrate\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if mark in block]
    return str(found)
