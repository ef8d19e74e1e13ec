"""Texts: which can be stored, and how they compare in any case and script."""

import unicodedata


def folded(text: str) -> str:
    """Return a form that is equal for texts that differ only in case or in the encoding of accents.

    In Python, because no function of PostgreSQL does this on every server: `lower` depends on the
    database's locale, and folds no `ß`.
    """
    if text.isascii():
        return text.lower()
    composed = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", composed.casefold())


def alphabetical(title: str) -> tuple[str, str]:
    """Order by letter, whatever the case; an accent decides only between equal letters.

    In Python, because no collation of PostgreSQL does this on every server: the databases'
    locales differ, and not every server has ICU.
    """
    letters = casefolded = title.casefold()
    if not casefolded.isascii():
        decomposed = unicodedata.normalize("NFKD", casefolded)
        letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return letters, casefolded


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold the text: no NUL, no lone surrogate."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
