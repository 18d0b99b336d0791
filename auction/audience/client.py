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

from auction.audience.segment_files_wire import SegmentFilesClient, put_told
from auction.audience.segments_command import show_progress
from protos import audience_pb2 as pb
from protos.audience_pb2_grpc import AudienceStub
from protos.rpc.tls import ClientTls, open_channel
from targeting.lookalike.seed_list import read_seed_list
from targeting.own_lists import own_segment
from targeting.segments.generations import NEVER_MS
from targeting.segments.portable import ids_to_bytes
from targeting.segments.store import Change

TOKEN_VARIABLE = "FANBID_TOKEN"
SEEDS_SUFFIX = ".seeds"
_DEFAULT_SERVER = "127.0.0.1:7070"
_CHUNK_BYTES = 1 << 20
_CALL_TIMEOUT_S = 60.0
_PAGE_SIZE = 1_000
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
    tls = None if args.ca is None else ClientTls(args.ca)
    files = SegmentFilesClient(args.server, token, tls)
    try:
        if args.action == "upload":
            print(f"{args.segment}: {put_told(_upload(files, args.segment, ids))}")
            return 0
        with open_channel(args.server, tls, ()) as channel:
            _make_lookalike(files, AudienceStub(channel), (("authorization", f"Bearer {token}"),), args, ids)
    except grpc.RpcError as refused:
        raise ValueError(f"{args.server}: {refused.code().name}: {refused.details()}") from None
    finally:
        files.close()
    return 0


def _chunks(path: Path) -> Iterator[bytes]:
    if str(path) == "-":
        yield from iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
        return
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_CHUNK_BYTES), b"")


Metadata = tuple[tuple[str, str], ...]


def _upload(files: SegmentFilesClient, segment_id: str, ids: np.ndarray) -> pb.ImportSegmentResponse:
    """Replace a segment by a list, whole or not at all; answers what became of it."""
    return files.put(segment_id, ids_to_bytes(ids), Change.REPLACE, NEVER_MS, show_progress(segment_id))


def _has_members(stub: AudienceStub, metadata: Metadata, segment_id: str) -> bool:
    """Whether there is such a segment that is not empty; a creator's list by its plain name, too."""
    request, has_more = pb.ListSegmentsRequest(page_size=_PAGE_SIZE), True
    while has_more:
        page = stub.ListSegments(request, metadata=metadata, timeout=_CALL_TIMEOUT_S)
        meant = segment_id
        if page.creator_id and ":" not in segment_id:
            meant = own_segment(page.creator_id, segment_id)
        if any(listed.segment_id == meant for listed in page.segments):
            return True
        has_more = page.has_more
        request.after = page.segments[-1].segment_id if page.segments else ""
    return False


def _take_away(stub: AudienceStub, metadata: Metadata, seeds: str) -> None:
    """Empty the seeds of a lookalike that is not to be; what it was refused for is told, whatever becomes of this."""
    emptied = pb.PutSegmentRequest(segment_id=seeds, change=pb.SEGMENT_CHANGE_REPLACE)
    with suppress(grpc.RpcError):
        stub.PutSegment(emptied, metadata=metadata, timeout=_CALL_TIMEOUT_S)


def _wait_for(stub: AudienceStub, metadata: Metadata, segment_id: str) -> pb.PutLookalikeResponse:
    """Say on stderr how far it is until it is made.

    Raises:
        ValueError: it failed.
    """
    told = 0
    while True:
        now = stub.GetLookalike(
            pb.GetLookalikeRequest(segment_id=segment_id), metadata=metadata, timeout=_CALL_TIMEOUT_S
        )
        if now.state == pb.LOOKALIKE_STATE_MADE:
            return now.made
        if now.state == pb.LOOKALIKE_STATE_FAILED:
            raise ValueError(f"{segment_id}: {now.error}")
        if now.done_percent >= told + _TOLD_EVERY_PERCENT:
            told = now.done_percent
            print(f"{segment_id}: {told} % done", file=sys.stderr, flush=True)
        time.sleep(_ASK_AGAIN_S)


def _make_lookalike(
    files: SegmentFilesClient, stub: AudienceStub, metadata: Metadata, args: argparse.Namespace, ids: np.ndarray
) -> None:
    """Put the seeds, and make a lookalike of them; seeds that were not there before go again where there is to be none.

    *Why:* a list of that name may be somebody's work; whoever had one has one afterwards, the old or the new.
    """
    seeds = args.segment + SEEDS_SUFFIX
    had_seeds = _has_members(stub, metadata, seeds)
    print(f"{seeds}: {put_told(_upload(files, seeds, ids))}; looking for viewers like them", flush=True)
    try:
        request = pb.PutLookalikeRequest(
            segment_id=args.segment, seed_segment_id=seeds, size=args.size, creator_id=args.creator, in_background=True
        )
        stub.PutLookalike(request, metadata=metadata, timeout=_CALL_TIMEOUT_S)
        made = _wait_for(stub, metadata, args.segment)
    except (grpc.RpcError, ValueError):
        if not had_seeds:
            _take_away(stub, metadata, seeds)
        raise
    print(f"{args.segment}: {made.members:,} members" + ("" if made.learned else "; too few follows to learn from"))
    if not made.held_out:
        print("too few seeds to tell what such a choice finds")
        return
    print(
        f"of {made.held_out:,} seeds that were held out, such a choice finds {100 * made.recall:.1f} %; as many of the "
        f"most active viewers, {100 * made.activity_recall:.1f} %"
    )
