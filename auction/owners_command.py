"""`fanbid owners`: the ledgers that share the budgets of one Redis; who keeps grants waiting, and who leaves."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from auction.config import ServeConfig
from auction.services import EPOCH_PERIOD_MS, Services
from auction.shared.judged_redis import told_positions
from auction.shared.redis_command import ADMIN_URL_VARIABLE, administrators_url
from pacing.budget import owner_redis
from pacing.budget.quarantine import FAILOVER, clock_time
from pacing.budget.redis_epochs import creator_ids, noted_epochs
from pacing.budget.redis_store import RedisStore
from pacing.facts import row_text
from pacing.ledger.errors import LedgerInUse
from pacing.redis_link import RedisLink, RedisUnavailable

_PATIENCE_S = 60.0
_STEP_S = 0.1
_HAND_OVER_S = 10.0
_QUIET_S = 2.0
_LISTED_S = 2.0 * EPOCH_PERIOD_MS / 1_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list", help="show every owner, for how many creators grants wait for it, and until when"
    )
    retire = actions.add_parser("retire", help="settle all that a stopped server's ledger has, and let it leave")
    retire.add_argument("--data", type=Path, metavar="DIR", help="the data directory of the stopped server")
    retire.add_argument("--owner", type=int, metavar="N", help="with --lost: the owner, as listed")
    retire.add_argument(
        "--lost",
        action="store_true",
        help="with --owner: its directory is gone; grants wait for it no longer, what it accepted and did not settle "
        "is not charged. With --data: it leaves although no other server has all of its rows",
    )
    for action in (listing, retire):
        action.add_argument(
            "--redis",
            metavar="URL",
            help="of the servers' Redis, with an account that may SCAN, an administrator's and not a server's; "
            f"without it, {ADMIN_URL_VARIABLE}",
        )


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done.

    Raises:
        ValueError: the flags do not go together, the owner is none of this Redis, Redis does not answer, or the server
            of the directory is running.
    """
    args.redis = administrators_url(args.redis)
    try:
        link = RedisLink(args.redis)
        try:
            if args.action == "list":
                _print_owners(link)
            elif args.lost and args.data is None:
                _forget(link, args)
            else:
                _retire(link, args)
        finally:
            link.close()
    except RedisUnavailable as error:
        raise ValueError(str(error)) from None
    return 0


def _print_owners(link: RedisLink) -> None:
    owners = owner_redis.owners(link)
    epochs = noted_epochs(link, creator_ids(link))
    behind = Counter(owner_id for epoch in epochs for owner_id in epoch.owners_behind)
    print(f"{link.address} {owner_redis.deployment_of(link)}")
    print(f"{'owner':>6}  {'creators that wait for it':>25}  directory when it joined")
    for owner_id in sorted(owners.keys() | behind.keys()):
        print(f"{owner_id:>6}  {behind[owner_id]:>25}  {owners.get(owner_id, '(retired)')}")
    ends_at_ms = [epoch.refuse_until_ms for epoch in epochs if epoch.refuse_until_ms > time.time() * 1_000]
    if ends_at_ms:
        until = clock_time(max(ends_at_ms))
        print(f"no grants until {until} (creators: {len(ends_at_ms)}): {FAILOVER}")


def _forget(link: RedisLink, args: argparse.Namespace) -> None:
    if args.owner is None:
        raise ValueError("--lost: names the owner with --owner, or its directory with --data")
    folder = owner_redis.owners(link).get(args.owner)
    if folder is None:
        if not any(args.owner in epoch.owners_behind for epoch in noted_epochs(link, creator_ids(link))):
            raise ValueError(f"--owner {args.owner}: not one of this Redis; see fanbid owners list")
        _leave(link, args.redis, args.owner)  # entered again by a server that had not heard that it left
        print(f"owner {args.owner} had left; grants wait for it no longer")
        return
    if owner_redis.is_folder_of(link, Path(folder), args.owner):
        raise ValueError(f"--lost: its directory {folder} is there; stop its server, and retire it with --data")
    _leave(link, args.redis, args.owner)
    print(f"owner {args.owner} is forgotten; grants wait for it no longer")
    stay = owner_redis.owners(link)
    told = told_positions(link, [args.owner])[args.owner]
    row, holder = max(((row, owner_id) for owner_id, row in told.items() if owner_id in stay), default=(0, 0))
    kept = f"owner {holder} has its rows up to {row} and passes them on" if row else "no server has any row of it"
    print(f"{kept}; what it judged and told nobody is in no statement")


def _retire(link: RedisLink, args: argparse.Namespace) -> None:
    if args.data is None or args.owner is not None:
        raise ValueError("retire: takes --data DIR, or --owner N --lost where that directory is gone; not both")
    if not owner_redis.is_shared(args.data):
        raise ValueError(f"--data {args.data}: no server with --redis ever used it")
    config = ServeConfig(data=args.data, redis=args.redis, no_rest=True, no_bridge=True)
    try:
        services = Services(config)
    except LedgerInUse:
        raise ValueError(f"--data {args.data}: its server is running; stop it first") from None
    try:
        _settle_everything(services)
        assert services.membership is not None
        owner_id = services.membership.owner.owner_id
        only_here = _hand_over(services, link)
        if only_here is not None and not args.lost:
            raise ValueError(
                f"row {row_text(only_here)} and what follows is at no other server; start one until it has them, or "
                "say --lost to leave with them; nothing is retired"
            )
    finally:
        services.close()
    _leave(link, args.redis, owner_id)
    owner_redis.mark_retired(args.data)
    print(f"owner {owner_id} has settled all that it accepted, and has left; its directory is history now")
    if only_here is not None:
        print(f"row {row_text(only_here)} and what follows is in no other server's statements")


def _settle_everything(services: Services) -> None:
    """Judge the whole ledger, and tell the store again what it may have lost.

    Raises:
        ValueError: that is not done after a minute.
    """
    assert services.membership is not None
    epochs = services.membership.epochs
    ledger, end_s = services.ledger, time.monotonic() + _PATIENCE_S
    while ledger.judged_sequence < ledger.last_sequence or epochs.is_behind:
        if time.monotonic() > end_s:
            left = ledger.last_sequence - ledger.judged_sequence
            raise ValueError(f"{left} rows of the ledger are not judged after {_PATIENCE_S:.0f} s; nothing is retired")
        epochs.tick()
        services.follow()
        time.sleep(_STEP_S)


def _hand_over(services: Services, link: RedisLink) -> int | None:
    """Tell the servers that stay every row that they lack; answers the first one that none of them has, or None.

    Waits as long as they take rows, and a while for the first of them to come.
    """
    peers = services.peers
    assert peers is not None and services.membership is not None
    stay = owner_redis.owners(link).keys() - {services.membership.owner.owner_id}
    before, end_s = peers.only_here(stay), time.monotonic() + _HAND_OVER_S
    said_s = time.monotonic()
    while (only_here := peers.only_here(stay)) is not None and stay and time.monotonic() < end_s:
        if only_here != before:
            before, end_s = only_here, time.monotonic() + _HAND_OVER_S
        if time.monotonic() - said_s > _QUIET_S:
            said_s = time.monotonic()
            print(f"waiting for another server to take row {row_text(only_here)} and what follows", file=sys.stderr)
        peers.step()
        time.sleep(_STEP_S)
    return only_here


def _leave(link: RedisLink, url: str, owner_id: int) -> None:
    """Let nobody wait for an owner; once more when no server has it on its list any more, and so enters it again."""
    store = RedisStore(url, owner_id)
    store.retire(creator_ids(link))
    owner_redis.forget(link, owner_id)
    time.sleep(_LISTED_S)
    store.retire(creator_ids(link))
    store.close()
