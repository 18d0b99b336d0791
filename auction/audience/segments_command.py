"""`fanbid segments`: a segment of a running server out of a file of viewer ids, and into one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from auction.audience.changes import check_change
from auction.audience.imports_under_way import MAX_FILE_BYTES
from auction.audience.segment_files_wire import Progress, SegmentFilesClient, put_told
from protos.rpc.tls import ClientTls
from targeting.segments.generations import NEVER_MS
from targeting.segments.store import Change

DEFAULT_SERVER = "127.0.0.1:7070"
TOKEN_VARIABLE = "FANBID_TOKEN"
_QUIET_S = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    putting = actions.add_parser(
        "import", help="change a segment by a file: a portable Roaring bitmap of viewer ids, of 32-bit or 64-bit values"
    )
    getting = actions.add_parser(
        "export", help="write a segment to a file of the same kind; 32-bit if all ids are such"
    )
    for action in (putting, getting):
        action.add_argument("name", metavar="NAME", help="the segment: [a-z0-9:_.-]{1,64}")
        action.add_argument("file", type=Path, metavar="FILE")
        action.add_argument("--server", default=DEFAULT_SERVER, metavar="ADDR", help=f"default {DEFAULT_SERVER}")
        action.add_argument(
            "--token", metavar="TOKEN", help=f"an operator's; without it, the one in the variable {TOKEN_VARIABLE}"
        )
        action.add_argument("--tls-ca", type=Path, metavar="FILE", help="who vouches for a server with TLS (PEM)")
        action.add_argument("--tls-cert", type=Path, metavar="FILE", help="own certificate, where the server wants one")
        action.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    putting.add_argument(
        "--change",
        choices=[change.name.lower() for change in Change],
        default=Change.REPLACE.name.lower(),
        help="default: replace, as a whole",
    )
    putting.add_argument(
        "--expires-at",
        type=_instant_ms,
        default=NEVER_MS,
        metavar="TIME",
        help="until when who is put or added is a member, such as 2026-08-01T00:00:00+08:00; without it, for good",
    )


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done.

    Raises:
        ValueError: a flag cannot be used, the file is none that the server takes, or the server refused or is away.
        FileNotFoundError, FileExistsError: the file is not there, or there already.
    """
    token = args.token or os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise ValueError(f"--token: needed, or {TOKEN_VARIABLE}; `fanbid token create --role operator` makes one")
    client = SegmentFilesClient(args.server, token, _tls(args))
    try:
        return _import(client, args) if args.action == "import" else _export(client, args)
    finally:
        client.close()


def _import(client: SegmentFilesClient, args: argparse.Namespace) -> int:
    change = Change[args.change.upper()]
    check_change(args.name, change, args.expires_at)
    size = args.file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{args.file}: {size} bytes; at most {MAX_FILE_BYTES}")
    content = args.file.read_bytes()
    put = client.put(args.name, content, change, args.expires_at, show_progress(f"import {args.name}"))
    print(f"segment {args.name}: {put_told(put)}")
    return 0


def _export(client: SegmentFilesClient, args: argparse.Namespace) -> int:
    if args.file.exists():
        raise FileExistsError(f"{args.file}: is there already")
    content, members = client.get(args.name, show_progress(f"export {args.name}"))
    with args.file.open("xb") as file:
        file.write(content)
    print(f"segment {args.name}: {members:,} members, {len(content):,} bytes in {args.file}")
    return 0


def show_progress(label: str) -> Progress:
    """Shows on stderr how much is through, once it has taken a while."""
    shown_at_s = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown_at_s
        if time.monotonic() - shown_at_s >= _QUIET_S:
            shown_at_s = time.monotonic()
            print(f"{label}: {done:,} of {total:,} bytes", file=sys.stderr, flush=True)

    return show


def _tls(args: argparse.Namespace) -> ClientTls | None:
    if args.tls_ca is None:
        if args.tls_cert is not None or args.tls_key is not None:
            raise ValueError("--tls-cert, --tls-key: need --tls-ca")
        return None
    return ClientTls(args.tls_ca, args.tls_cert, args.tls_key)


def _instant_ms(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: no date and time such as 2026-08-01T00:00:00+08:00") from None
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r}: has no offset from UTC, such as +08:00 or Z")
    return int(instant.astimezone(UTC).timestamp() * 1_000)
