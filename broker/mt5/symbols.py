"""What a wanted symbol is called at this broker. Pure.

A wrong instrument is worse than none: a name is taken only when it is one of the wanted base's own variants, or
the base with an ending or a beginning that brokers use. Where two names fit equally well none is taken by chance:
the order is fixed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_PAIRS: Final = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "NZDUSD", "USDCHF", "USDCAD", "BTCUSD", "ETHUSD")


def _plain(base: str) -> tuple[str, ...]:
    return (base, f"{base[:3]}/{base[3:]}", f"{base[:3]}_{base[3:]}", f"{base}.", f"{base}m")


#: Names of one instrument, besides what endings and beginnings make of its base. The first is the usual one.
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    **{base: _plain(base) for base in _PAIRS},
    "XAUUSD": (
        "XAUUSD", "GOLD", "XAU/USD", "XAU_USD", "XAUUSD.", "XAUUSDm", "GOLDmicro", "GOLDSPOT", "GOLDZ", "XAUUSD.c",
    ),
    "XAGUSD": ("XAGUSD", "SILVER", "XAG/USD", "XAG_USD", "XAGUSD.", "XAGUSDm"),
}  # fmt: skip
#: What the server's name suggests is tried first: (part of the name, variants by base).
_BY_SERVER: Final[tuple[tuple[str, dict[str, tuple[str, ...]]], ...]] = (
    ("xm", {"XAUUSD": ("GOLD", "GOLDmicro"), "XAGUSD": ("SILVER",)}),
    ("exness", {"XAUUSD": ("XAUUSDm", "XAUUSD")}),
    ("alpari", {"XAUUSD": ("XAUUSD", "GOLD")}),
    ("fbs", {"XAUUSD": ("XAUUSD", "GOLD")}),
    ("metaquotes", {"XAUUSD": ("XAUUSD",)}),
)
_EXNESS_ENDS_IN: Final = "m"
#: No digits and no other capitals: `US500-DEC25` is a future, `EUR_USD` is another currency's pair.
_ENDING: Final = re.compile(r"(?:[._\-#!]?(?:[a-z]{1,6}|[A-Z]|ECN|PRO|RAW|STD|VIP|MINI)|[._\-#!+]|)")
_MONTHS: Final = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_BEGINNING: Final = re.compile(r"(?:[._\-#!]|[a-z]{1,3}[._]?|)")


def base_of(wanted: str) -> str:
    """Letters and digits of a wanted name, in capitals, without an ending in small letters (`EURUSDm`, `EURUSD.c`)."""
    head = re.split(r"[.#]", wanted, maxsplit=1)[0] or wanted
    stem = re.sub(r"[a-z]{1,6}$", "", head) if not head.islower() else head
    letters = re.sub(r"[^A-Za-z0-9]", "", stem or head).upper()
    for base, names in VARIANTS.items():
        if wanted in names or letters in names:
            return base
    return letters


def fits(base: str, name: str) -> bool:
    """Whether a broker's name is this instrument: a listed variant, or the base with a beginning and an ending."""
    if name in VARIANTS.get(base, ()):
        return True
    split = (f"{base[:3]}/{base[3:]}", f"{base[:3]}_{base[3:]}", f"{base[:3]}-{base[3:]}") if len(base) == 6 else ()
    for stem in (base, *split):
        at = name.find(stem)
        if at >= 0 and _BEGINNING.fullmatch(name[:at]) and _is_ending(name[at + len(stem) :]):
            return True
    return False


def _is_ending(text: str) -> bool:
    letters = text.lstrip("._-#!")
    capital = len(letters) == 1 and letters.isupper() and letters == text  # EURUSDT: a letter more, another thing
    return _ENDING.fullmatch(text) is not None and letters.casefold() not in _MONTHS and not capital


def resolve(wanted: str, names: Sequence[str], server: str = "") -> str | None:
    """The broker's name for `wanted` out of all its `names`; None where it has none.

    The very name comes first, then the base's variants in the order that the server's name suggests, then the base
    with an ending or a beginning: the shortest, then the first in the alphabet.
    """
    known = set(names)
    if wanted in known:
        return wanted
    base = base_of(wanted)
    if not base:
        return None
    hints = next((each for part, each in _BY_SERVER if part in server.casefold()), {})
    first = hints.get(base, ())
    if "exness" in server.casefold():
        first = (*first, base + _EXNESS_ENDS_IN)
    for name in (*first, *VARIANTS.get(base, (base,))):
        if name in known:
            return name
    patterned = sorted((name for name in known if fits(base, name)), key=lambda name: (len(name), name))
    return patterned[0] if patterned else None
