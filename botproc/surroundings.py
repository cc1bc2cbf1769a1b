"""What a program finds around it: its folder, its environment, the notify socket, and its way to the bus.

Made by the minder before the program starts, and removed after its end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from botproc.notify import NotifySocket
from botproc.preload import ONE_THREAD
from protocol.endpoints import run_directory
from protocol.programconfig import ProgramConfig
from protocol.spec import RunSpec
from protocol.voice import VARIABLE, remove_voice, write_voice

#: What a service manager told the supervisor is not for its programs; nor what another Stablehand told it.
_NOT_INHERITED: Final = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", VARIABLE,
)  # fmt: skip


class Surroundings:
    """Of one run. Raises OSError where they cannot be made."""

    def __init__(self, spec: RunSpec, config: ProgramConfig) -> None:
        self._spec = spec
        self._config = config
        self._run_dir = run_directory(Path(spec.data_dir))
        self.notify = _notify_socket(spec, self._run_dir)
        self._voice = write_voice(self._run_dir, spec) if config.heartbeat == "bus" else None
        self.folder = Path(spec.config_dir) / (config.cwd or "")

    def environment(self) -> dict[str, str]:
        """The program's variables: the supervisor's, ours over them, the configuration's over all."""
        spec = self._spec
        own = {"NOTIFY_SOCKET": str(self.notify.path), "STABLEHAND_NAME": spec.name,
               "STABLEHAND_EPOCH": str(spec.epoch), "STABLEHAND_DATA_DIR": spec.data_dir}  # fmt: skip
        if self._config.watchdog_seconds:
            own["WATCHDOG_USEC"] = str(int(self._config.watchdog_seconds * 1e6))
        if self._voice is not None:
            own[VARIABLE] = str(self._voice)
        ours = {key for key, value in ONE_THREAD.items() if os.environ.get(key) == value}  # meant for bots
        inherited = {key: value for key, value in os.environ.items() if key not in ours and key not in _NOT_INHERITED}
        return {**inherited, **own, **self._config.environment}

    def close(self) -> None:
        """Remove what was made."""
        self.notify.close()
        if self._voice is not None:
            remove_voice(self._run_dir, self._spec.bot_id, self._spec.epoch)


def _notify_socket(spec: RunSpec, folder: Path) -> NotifySocket:
    """A path of this run's own, so that what an older run left behind cannot speak for it."""
    for old in folder.glob(f"notify-{spec.bot_id}-*"):
        old.unlink(missing_ok=True)
    return NotifySocket(folder / f"notify-{spec.bot_id}-{spec.epoch}")
