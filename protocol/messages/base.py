"""The version of the wire, and what all messages share."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

#: Version of the wire, said in every Hello; a receiver speaks WIRE and WIRE - 1.
WIRE: Final = 1


class Message(BaseModel):
    """Base of all messages: frozen, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
