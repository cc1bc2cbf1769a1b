"""The systemd unit of an installation, as text. deploy/systemd/ holds one of each kind, made by this module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: First line of every unit that we wrote: others are never overwritten or removed.
MARK: Final = "# Written by `stablehand service install`; a change by hand goes into a drop-in (systemctl edit)."
#: Seconds beyond the slowest bot: gateways, launchers, the last writes.
_BEYOND: Final = 60


@dataclass(frozen=True, slots=True)
class Unit:
    """What one unit needs to know. Paths are absolute; `user` is empty for a user's own service manager."""

    name: str
    config: Path
    data_dir: Path
    python: str
    user: str
    stop_seconds: float
    delegate: bool = True  # whether this systemd knows DelegateSubgroup (from version 254 on)

    @property
    def system(self) -> bool:
        """Whether it belongs to the system's service manager."""
        return bool(self.user)

    def text(self) -> str:
        """The whole file."""
        return "\n".join([MARK, *self._unit(), *self._service(), *self._hardening(), *self._install()]) + "\n"

    def _unit(self) -> list[str]:
        after = ["After=network-online.target time-sync.target", "Wants=network-online.target"]
        if not self.system:
            after = ["# A user's services end with the last session, unless: loginctl enable-linger"]
        return [
            "[Unit]",
            f"Description=Stablehand, trading bots of {_escaped(self.config)}",
            *after,
            "# A crash loop is ended by systemd: five starts in ten minutes.",
            "StartLimitIntervalSec=600",
            "StartLimitBurst=5",
            "",
        ]

    def _service(self) -> list[str]:
        command = " ".join(_quoted(word) for word in (self.python, "-P", "-m", "supervisor", "--config"))
        return [
            "[Service]",
            "# Ready means: every gateway is up (or given up), every run of before is adopted.",
            "Type=notify",
            "NotifyAccess=main",
            *([f"User={self.user}"] if self.system else []),
            f"WorkingDirectory={_escaped(self.config.parent)}",
            f"ExecStart={command} {_quoted(str(self.config))}",
            "# SIGHUP reads the file again and applies it.",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "# After a crash the next supervisor adopts the bots. 2: the file is wrong, a start again cannot mend it.",
            "Restart=on-failure",
            "RestartSec=1",
            "RestartPreventExitStatus=2",
            "# Only the supervisor is signalled; it stops its bots itself. Bots outlive its crash, not a stop.",
            "KillMode=process",
            f"TimeoutStopSec={int(self.stop_seconds) + _BEYOND}",
            "TimeoutStartSec=180",
            "# Fed by the supervisor's loop: it is not fed by a loop that stands, or that lags by half of this.",
            "WatchdogSec=60",
            "# One process killed for want of memory (a bot, by its score) is no reason to stop the others.",
            "OOMPolicy=continue",
            *(["OOMScoreAdjust=-500"] if self.system else []),
            *self._delegation(),
            "TasksMax=infinity",
            "LimitNOFILE=65536",
            "UMask=0077",
            "# Secrets: put a password into a credential, not into the file; the supervisor's processes find it in",
            "# $CREDENTIALS_DIRECTORY.",
            "#LoadCredentialEncrypted=mt5-password:/etc/stablehand/mt5-password.cred",
            "",
        ]

    def _delegation(self) -> list[str]:
        if not self.delegate:  # without the subgroup the next start could not enter a group that is shared out
            return []
        return [
            "# A control group for each bot, beside one for the supervisor and its gateways.",
            "Delegate=cpu memory",
            "DelegateSubgroup=supervisor",
        ]

    def _hardening(self) -> list[str]:
        common = [
            "# Hardening that leaves fork, exec and unix sockets alone. No PrivateTmp and no RuntimeDirectory: systemd",
            "# renews those at every start, and bots that live on would look for their sockets in the old one.",
            "NoNewPrivileges=yes",
            "LockPersonality=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "RestrictNamespaces=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
            "SystemCallArchitectures=native",
        ]
        if not self.system:
            return [*common, ""]
        return [
            *common,
            "CapabilityBoundingSet=",
            "ProtectSystem=strict",
            "# /tmp: a handover tries its successor there; and sockets whose path in data_dir would be too long.",
            f"ReadWritePaths={_quoted(str(self.data_dir), expands=False)} /tmp",
            "ProtectHome=read-only",
            "ProtectKernelTunables=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "",
        ]

    def _install(self) -> list[str]:
        return ["[Install]", f"WantedBy={'multi-user.target' if self.system else 'default.target'}"]


def _escaped(path: Path) -> str:
    """A path where systemd reads no quotes; its specifiers are taken literally."""
    return str(path).replace("\\", "\\\\").replace("%", "%%")


def _quoted(word: str, *, expands: bool = True) -> str:
    """A word of a list; `expands`: of a command line, where systemd puts in variables."""
    safe = word.replace("%", "%%")
    if expands:
        safe = safe.replace("$", "$$")
    if safe and all(letter.isalnum() or letter in "/._-+=:,@%$" for letter in safe):
        return safe
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def example(kind: str) -> str:
    """The unit that deploy/systemd/ shows: `system` or `user`."""
    home = Path("/srv/stablehand") if kind == "system" else Path("/home/me/stable")
    return Unit(
        name="stablehand", config=home / "supervisor.toml", data_dir=home / "var",
        python=str(home / ".venv/bin/python"), user="stablehand" if kind == "system" else "", stop_seconds=30,
    ).text()  # fmt: skip
