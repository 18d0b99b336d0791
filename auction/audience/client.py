"""`fanbid audience`: lists of viewers from CSV files into a running server, as segments and as lookalikes of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np

from auction.audience.service import MAX_SEGMENT_IDS
from protos import audience_pb2 as pb
from protos.audience_pb2_grpc import AudienceStub
from protos.rpc.tls import ClientTls, open_channel
from targeting.lookalike.seed_list import read_seed_list

TOKEN_VARIABLE = "FANBID_TOKEN"
SEEDS_SUFFIX = ".seeds"
_DEFAULT_SERVER = "127.0.0.1:7070"
_CHUNK_BYTES = 1 << 20
_UPLOAD_TIMEOUT_S = 60.0
_ASK_AGAIN_S = 0.5
_TOLD_EVERY_PERCENT = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    upload = actions.add_parser("upload", help="replace a segment by the viewers of a list")
    lookalike = actions.add_parser(
        "lookalike",
        help="replace a segment by the viewers most like those of a list",
        description=f"Upload a list as the segment NAME{SEEDS_SUFFIX}, and make NAME of the viewers most like it.",
    )
    lookalike.add_argument("--size", type=int, required=True, metavar="N", help="how many viewers: 1 to 1,000,000")
    lookalike.add_argument(
        "--creator", type=int, default=0, metavar="ID", help="where the list is of this creator's followers"
    )
    for action in (upload, lookalike):
        action.add_argument("file", type=Path, metavar="FILE", help="CSV with an id in the first column; -: stdin")
        action.add_argument("--segment", required=True, metavar="NAME", help="the segment that it becomes")
        action.add_argument("--server", default=_DEFAULT_SERVER, metavar="HOST:PORT", help=f"default {_DEFAULT_SERVER}")
        action.add_argument("--ca", type=Path, metavar="FILE", help="call over TLS; these authorities vouch for it")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done. Nothing is sent unless every line of the list is sound.

    Raises:
        ValueError: a flag or the list cannot be used, or the server refuses.
        FileNotFoundError: there is no such list.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise ValueError(f"{TOKEN_VARIABLE}: set it to an operator's or a creator's token (fanbid token create)")
    if not 0 <= getattr(args, "creator", 0) < 2**64:
        raise ValueError(f"--creator {args.creator}: not in 1..{2**64 - 1}")
    if not 1 <= getattr(args, "size", 1) < 2**32:
        raise ValueError(f"--size {args.size}: not in 1..1000000")
    ids = read_seed_list(_chunks(args.file))
    with open_channel(args.server, None if args.ca is None else ClientTls(args.ca), ()) as channel:
        stub, metadata = AudienceStub(channel), (("authorization", f"Bearer {token}"),)
        try:
            if args.action == "upload":
                print(f"{args.segment}: {_upload(stub, metadata, args.segment, ids):,} members")
            else:
                _make_lookalike(stub, metadata, args, ids)
        except grpc.RpcError as refused:
            raise ValueError(f"{args.server}: {refused.code().name}: {refused.details()}") from None
    return 0


def _chunks(path: Path) -> Iterator[bytes]:
    if str(path) == "-":
        yield from iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
        return
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK_BYTES), b"")


Metadata = tuple[tuple[str, str], ...]


def _upload(stub: AudienceStub, metadata: Metadata, segment_id: str, ids: np.ndarray) -> int:
    """Put a list into a segment, in as many calls as it needs; answers how many members there are."""
    members, change = 0, pb.SEGMENT_CHANGE_REPLACE
    for start in range(0, len(ids), MAX_SEGMENT_IDS):
        part = ids[start : start + MAX_SEGMENT_IDS]
        request = pb.PutSegmentRequest(segment_id=segment_id, change=change, viewer_ids=part)
        members = stub.PutSegment(request, metadata=metadata, timeout=_UPLOAD_TIMEOUT_S).members
        change = pb.SEGMENT_CHANGE_ADD
    return members


def _take_away(stub: AudienceStub, metadata: Metadata, seeds: str) -> None:
    """Empty the seeds of a lookalike that is not to be; what it was refused for is told, whatever becomes of this."""
    emptied = pb.PutSegmentRequest(segment_id=seeds, change=pb.SEGMENT_CHANGE_REPLACE)
    with suppress(grpc.RpcError):
        stub.PutSegment(emptied, metadata=metadata, timeout=_UPLOAD_TIMEOUT_S)


def _wait_for(stub: AudienceStub, metadata: Metadata, segment_id: str) -> pb.PutLookalikeResponse:
    """Say on stderr how far it is until it is made.

    Raises:
        ValueError: it failed.
    """
    told = 0
    while True:
        now = stub.GetLookalike(
            pb.GetLookalikeRequest(segment_id=segment_id), metadata=metadata, timeout=_UPLOAD_TIMEOUT_S
        )
        if now.state == pb.LOOKALIKE_STATE_MADE:
            return now.made
        if now.state == pb.LOOKALIKE_STATE_FAILED:
            raise ValueError(f"{segment_id}: {now.error}")
        if now.done_percent >= told + _TOLD_EVERY_PERCENT:
            told = now.done_percent
            print(f"{segment_id}: {told} % done", file=sys.stderr, flush=True)
        time.sleep(_ASK_AGAIN_S)


def _make_lookalike(stub: AudienceStub, metadata: Metadata, args: argparse.Namespace, ids: np.ndarray) -> None:
    seeds = args.segment + SEEDS_SUFFIX
    try:
        print(f"{seeds}: {_upload(stub, metadata, seeds, ids):,} members; looking for viewers like them", flush=True)
        request = pb.PutLookalikeRequest(
            segment_id=args.segment, seed_segment_id=seeds, size=args.size, creator_id=args.creator, in_background=True
        )
        stub.PutLookalike(request, metadata=metadata, timeout=_UPLOAD_TIMEOUT_S)
        made = _wait_for(stub, metadata, args.segment)
    except (grpc.RpcError, ValueError):
        _take_away(stub, metadata, seeds)
        raise
    print(f"{args.segment}: {made.members:,} members" + ("" if made.learned else "; too few follows to learn from"))
    print(
        f"of {made.held_out:,} seeds that were held out, such a choice finds {100 * made.recall:.1f} %; as many of the "
        f"most active viewers, {100 * made.activity_recall:.1f} %"
    )
