"""`fanbid token`: make, list and revoke access tokens, also while a server runs on the same data."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from auction.campaigns.access import Access, Role
from auction.campaigns.model import MAX_ID
from auction.campaigns.store import CampaignStore, StoreUnavailable
from auction.config import BadSetting
from pacing.budget.owner_redis import is_shared
from pacing.clocks import SystemClock
from pacing.data_folder import add_data_argument, data_folder

STORE_FILE = "campaigns.sqlite"
_WHEN_SHARED = (
    "at this folder's server within a second; at the others a second after that server has told Redis, "
    "which waits until both are back"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.description = "Make, list and revoke the tokens that callers send as 'authorization: Bearer TOKEN'."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a token and print it, once")
    create.add_argument(
        "--role",
        required=True,
        choices=[role.value for role in Role],
        help="feed: asks for bids, reports outcomes; creator: own campaigns; operator: audiences, all campaigns",
    )
    create.add_argument("--creator", type=int, metavar="ID", help="the creator that the token stands for")
    listing = actions.add_parser("list", help="show every token's id, role and state; secrets are not kept")
    revoke = actions.add_parser("revoke", help="make a token invalid; a running server notices within a second")
    revoke.add_argument("--id", type=int, required=True, metavar="N", dest="token_id", help="the token's id, as listed")
    for action in (create, listing, revoke):
        add_data_argument(action)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done.

    Raises:
        ValueError: a flag cannot be used, or the data directory or its store cannot.
        FileNotFoundError: there is no store, and none is to be made.
    """
    folder = data_folder(args)
    if args.action == "create":
        _check_creator(args.role, args.creator)
        _make_folder(folder)
    elif not (folder / STORE_FILE).is_file():
        raise FileNotFoundError(f"--data {folder}: no {STORE_FILE} there; is it the data directory of a server?")
    try:
        store = CampaignStore(folder / STORE_FILE)
        try:
            return _run(args, store, folder)
        finally:
            store.close()
    except StoreUnavailable as error:
        raise BadSetting(f"--data {folder}: {error}") from error


def _check_creator(role: str, creator_id: int | None) -> None:
    """See to it that nothing is made for a token that cannot be."""
    if role != Role.CREATOR:
        if creator_id is not None:
            raise BadSetting(f"--creator {creator_id}: only with --role {Role.CREATOR}")
    elif creator_id is None:
        raise BadSetting(f"--creator is required with --role {Role.CREATOR}")
    elif not 1 <= creator_id <= MAX_ID:
        raise BadSetting(f"--creator {creator_id}: not in 1..{MAX_ID}")


def _make_folder(folder: Path) -> None:
    """A folder that no server knows yet may be meant, or misspelt: it is made, and that is told."""
    if not (folder / STORE_FILE).is_file():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # as a server makes it
        except OSError as refused:
            raise BadSetting(f"--data {folder}: {refused}") from refused
        print(f"{folder}: had no {STORE_FILE}, so a new one is made; no server has used this folder", file=sys.stderr)


def _run(args: argparse.Namespace, store: CampaignStore, folder: Path) -> int:
    now_ms = SystemClock().wall_ms()
    if args.action == "create":
        print(Access(store).create_token(args.role, args.creator or 0, now_ms))
        if is_shared(folder):
            print(f"valid {_WHEN_SHARED}", file=sys.stderr)
    elif args.action == "revoke":
        if not Access(store).revoke(args.token_id, now_ms):
            raise BadSetting(f"--id {args.token_id}: no valid token of this id")
        print(f"token {args.token_id} revoked" + (f", {_WHEN_SHARED}" if is_shared(folder) else ""))
    else:
        _print_tokens(store)
    return 0


def _print_tokens(store: CampaignStore) -> None:
    print(f"{'id':>15}  {'role':<8}  {'creator':>20}  {'created (UTC)':<19}  state")
    for token in store.tokens():
        created = datetime.fromtimestamp(token.created_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        creator = str(token.creator_id) if token.creator_id else "-"
        state = "revoked" if token.revoked_at_ms else "valid"
        print(f"{token.token_id:>15}  {token.role:<8}  {creator:>20}  {created:<19}  {state}")
