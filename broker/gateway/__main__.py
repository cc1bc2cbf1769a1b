"""`python -m broker.gateway FILE`: a gateway that runs by itself."""

from __future__ import annotations

import sys

from broker.gateway.standalone import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
