"""A client file: all that one client needs to speak to a supervisor over the network, in one private file.

`stablehand keys new` writes it; `stablehand --connect FILE` and `ControlClient.from_file` use it. It holds the
client's secret key: whoever has the file is that client.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from protocol.endpoints import Endpoints
from protocol.errors import DENIED, InvalidInput, StablehandError
from protocol.keys import KeyPair

Role = Literal["viewer", "operator"]


@dataclass(frozen=True, slots=True)
class ClientFile:
    """One client: who it is, and where the supervisor answers it."""

    name: str
    role: str
    control: str
    events: str
    server_key: str
    public: str
    secret: str

    def __repr__(self) -> str:
        return f"ClientFile(name={self.name!r}, role={self.role!r}, control={self.control!r})"

    @property
    def keys(self) -> KeyPair:
        """The client's own pair."""
        return KeyPair(self.public, self.secret)

    @property
    def endpoints(self) -> Endpoints:
        """The supervisor's addresses, as a client needs them."""
        return Endpoints(
            transport="tcp", bus="", control=self.control, events=self.events, server_key=self.server_key
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the file, for its owner only. Raises FileExistsError, OSError."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            out.write(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> ClientFile:
        """Read it. Raises InvalidInput, and StablehandError(denied) when others may read the secret too."""
        try:
            raw = json.loads(path.read_text("utf-8"))
            found = ClientFile(**raw)
            if not all(isinstance(value, str) for value in asdict(found).values()):
                raise TypeError("a value is no text")
        except FileNotFoundError:
            raise InvalidInput(f"there is no client file {path}", hint="stablehand keys new makes one") from None
        except (ValueError, TypeError):
            raise InvalidInput(f"{path} is no client file", hint="stablehand keys new makes one") from None
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise StablehandError(f"{path} can be read by others", code=DENIED, hint=f"chmod 600 {path}")
        return found
