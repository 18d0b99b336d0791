"""The data folder of a server, as the commands that work beside one are told it: `--data`, or its variable."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DATA_VARIABLE = "FANBID_DATA"


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --data; `data_folder` says what was given."""
    text = f"the server's data directory; without it, {DATA_VARIABLE}"
    parser.add_argument("--data", type=Path, metavar="DIR", help=text)


def data_folder(args: argparse.Namespace) -> Path:
    """The folder that the flag names, else the variable.

    Raises:
        ValueError: neither does.
    """
    text = args.data or os.environ.get(DATA_VARIABLE)
    if not text:
        raise ValueError(f"--data: required, the data directory of the server; or set {DATA_VARIABLE}")
    return Path(text)
