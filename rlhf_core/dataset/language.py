"""A guess of the language, good enough to group rows by: script first, then common words."""

import re
from collections import Counter

MAX_CHARS = 300  # of each text: the beginning says enough
MIN_WORDS = 2

_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),  # before Chinese: Japanese text has Han characters too
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_NOT_LATIN = re.compile("[\u0370-\U0010ffff]")
_PUNCTUATION = str.maketrans(dict.fromkeys(".,;:!?()[]\"'*", " "))
_COMMON = {
    "en": "the and is of to in that it for you with are this was not be can have on what how why",
    "de": "der die das und ist nicht ein eine zu mit ich sie es auf den von für wie wird auch",
    "fr": "le la les et est des une que pour dans pas vous qui du je sur avec au ce il",
    "es": "el los las y es que una por para con no se del lo como su más pero en al",
    "it": "il di che è per una non con sono del della si gli le nel anche come questo ma ho",
    "pt": "o os e é que uma para com não do da em por mais como se na no ao você",
    "nl": "de het een en is van dat niet voor met op zijn te ik je aan ook wat hoe er",
}
_LANGUAGES: dict[str, list[str]] = {}
for _language, _words in _COMMON.items():
    for _common_word in _words.split():
        _LANGUAGES.setdefault(_common_word, []).append(_language)


def guess_language(*texts: str) -> str:
    """A code such as "en", "de", "zh"; "other" where the texts do not tell."""
    text = " ".join(text[:MAX_CHARS] for text in texts)
    foreign = len(_NOT_LATIN.findall(text)) if not text.isascii() else 0
    if foreign * 3 > len(text.replace(" ", "")):
        for language, script in _SCRIPTS:
            if len(script.findall(text)) * 5 > foreign:
                return language
        return "other"
    words = text.lower().translate(_PUNCTUATION).split()
    hits = Counter(
        language for word in words if word in _LANGUAGES for language in _LANGUAGES[word]
    )
    found = hits.most_common(1)  # of equal ones the first that was met: the same each time
    return found[0][0] if found and found[0][1] >= MIN_WORDS else "other"
