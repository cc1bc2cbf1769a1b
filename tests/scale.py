"""How large the fault cases are: small in the suite, as the guarantees name them with STABLEHAND_SCALE=soak."""

from __future__ import annotations

import os
from typing import Final

SOAK: Final = os.environ.get("STABLEHAND_SCALE") == "soak"

#: Randomised rounds of faults on the order path, each under one of the four comment policies.
ORDER_ROUNDS: Final = int(os.environ.get("STABLEHAND_ROUNDS", 1_000 if SOAK else 5))
#: Seconds that a request may still be on its way to the market when its gateway is dead.
LATE_FILL: Final = 10.0 if SOAK else 1.0
#: Seconds that the terminal's calls may take; a lost order is given up half as long again after that.
TERMINAL_TIMEOUT: Final = 8.0 if SOAK else 1.0
#: Seconds for which an account must have been free before the gateway that waits for it takes over.
TAKEOVER: Final = 30.0 if SOAK else 0.5
#: Seconds that an order is in flight while the next epoch starts.
IN_FLIGHT: Final = 5.0 if SOAK else 1.0
#: Bots that hear the market from one gateway.
FEED_BOTS: Final = 500 if SOAK else 60
#: Bots of a stable that is stopped as a whole.
MANY_BOTS: Final = 200 if SOAK else 20
#: Seconds for which a program writes as fast as it can.
FLOOD: Final = 20.0 if SOAK else 2.0
#: Bots that are all wanted when the machine comes up.
REBOOT_BOTS: Final = 1_000 if SOAK else 20
#: Bots that outlive their supervisor, and seconds within which the next one has taken over all of them.
ADOPTED: Final = 100 if SOAK else 6
ADOPTED_WITHIN: Final = 3.0 if SOAK else 9.0  # the suite runs on machines that do much else
#: Seconds after a command was answered at which the supervisor is killed in the middle of doing it.
MIDDLES: Final = (0.0, 0.02, 0.1) if SOAK else (0.0,)
#: Bots under a machine that is busy with other work, for so many seconds.
BUSY_BOTS: Final = 20 if SOAK else 4
BUSY_SECONDS: Final = 60.0 if SOAK else 3.0
#: Seconds for which the supervisor itself is stopped.
STOPPED_SECONDS: Final = 30.0 if SOAK else 3.0
#: Bots that start at once, none of which may be taken for hung.
STARTING_BOTS: Final = 500 if SOAK else 12
#: Seconds for which the store's file is locked by somebody else.
LOCKED_SECONDS: Final = 30.0 if SOAK else 2.0
#: Bots, programs and seconds of the random rounds of faults on a whole stable.
SOAK_BOTS: Final = int(os.environ.get("STABLEHAND_SOAK_BOTS", 100 if SOAK else 8))
SOAK_PROGRAMS: Final = 5 if SOAK else 1
SOAK_SECONDS: Final = float(os.environ.get("STABLEHAND_SOAK_MINUTES", 60)) * 60 if SOAK else 8.0
#: Seconds that a fault of those rounds lasts: a stopped supervisor, a locked store, a busy machine.
SOAK_FAULT: Final = 12.0 if SOAK else 1.5
#: Connections of one attack on a socket.
ATTACKERS: Final = 1_000 if SOAK else 60
#: Examples of each fuzz test; those that speak to a process send a few frames each.
FUZZ: Final = 20_000 if SOAK else 60
FUZZ_PROCESS: Final = 2_000 if SOAK else 25
