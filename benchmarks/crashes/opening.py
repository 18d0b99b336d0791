"""A process that opens a server's data folder once, and says how long that took and how much of it the processor was
busy with it: `python -m` with the folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from auction.config import ServeConfig
from auction.services import build_services


def main(folder: Path) -> None:
    """Open, tell the seconds on stdout, and end as a crash would: the folder is as the opening left it."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    build_services(ServeConfig(data=folder))
    sys.stdout.write(f"{time.perf_counter() - began_s} {time.process_time() - began_cpu_s}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
