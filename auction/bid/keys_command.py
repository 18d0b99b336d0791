"""`fanbid keys`: list, rotate and retire the keys that sign bids, also while a server runs on the same data."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from auction.bid.keyring import KEPT_MS, KEY_FILE, change_keys, retired
from auction.bid.token import TokenKeys
from auction.shared.keys_redis import SIGN_DELAY_MS
from pacing.budget.owner_redis import is_shared
from pacing.clocks import MS_PER_DAY, SystemClock
from pacing.data_folder import add_data_argument, data_folder

_WHEN_SHARED = "this folder's server tells Redis within a second, or when both are back"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="show every key's id and state; the keys themselves are not shown")
    rotate = actions.add_parser("rotate", help="sign with a new key; the old ones go on verifying")
    days = KEPT_MS // MS_PER_DAY
    retire = actions.add_parser("retire", help=f"forget a key that was replaced {days} days ago or more")
    retire.add_argument("--id", type=int, required=True, metavar="N", dest="key_id", help="the key's id, as listed")
    retire.add_argument("--early", action="store_true", help="although outcomes of its tokens may still come")
    for action in (listing, rotate, retire):
        add_data_argument(action)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done.

    Raises:
        ValueError: the key file is none, or the key may not be retired.
        FileNotFoundError: there is no key file.
    """
    now_ms, folder = SystemClock().wall_ms(), data_folder(args)
    if args.action == "rotate":
        keys = change_keys(folder, lambda keys: keys.rotated(now_ms))
        if is_shared(folder):
            print(f"a new key signs on every server {SIGN_DELAY_MS // 1000} seconds after Redis has it; {_WHEN_SHARED}")
            print("`fanbid keys list` then shows its id")
        else:
            print(f"key {keys.active_id} signs; a running server takes it over within a second")
    elif args.action == "retire":
        change_keys(folder, lambda keys: retired(keys, args.key_id, now_ms, args.early))
        if is_shared(folder):
            print(f"every server refuses the tokens of key {args.key_id} a second after Redis knows; {_WHEN_SHARED}")
        else:
            print(f"key {args.key_id} is forgotten; a running server refuses its tokens within a second")
    else:
        _print_keys(TokenKeys.load(folder / KEY_FILE), now_ms)
    return 0


def _print_keys(keys: TokenKeys, now_ms: int) -> None:
    print(f"{'id':>4}  {'made (UTC)':<19}  {'replaced (UTC)':<19}  state")
    for key_id in sorted(keys.keys):
        replaced_at_ms = keys.replaced_at_ms.get(key_id, 0)
        if key_id == keys.active_id:
            state = "signs"
        else:
            state = "verifies" if now_ms < replaced_at_ms + KEPT_MS else "verifies; may be retired"
        print(f"{key_id:>4}  {_shown(keys.made_at_ms.get(key_id, 0))}  {_shown(replaced_at_ms)}  {state}")


def _shown(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if at_ms else f"{'-':<19}"
