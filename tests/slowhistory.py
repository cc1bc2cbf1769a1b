"""The terminal of `tests.mt5module` while it loads its bars: it answers with those that it has by now.

`{"loaded": 20}` among the faults that the test writes: so many bars of each history.
"""

from __future__ import annotations

from typing import Any

from tests import mt5module


def __getattr__(name: str) -> Any:
    found = getattr(mt5module, name)
    if name != "copy_rates_from_pos":
        return found

    def loaded(*args: Any, **kwargs: Any) -> Any:
        value = found(*args, **kwargs)
        return value if value is None else value[-mt5module._faults().get("loaded", len(value)) :]

    return loaded
