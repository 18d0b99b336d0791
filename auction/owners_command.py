"""`fanbid owners`: the ledgers that share the budgets of one Redis; who keeps grants waiting, and who leaves."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from auction.config import ServeConfig
from auction.services import Services
from auction.shared.redis_command import ADMIN_URL_VARIABLE, administrators_url
from pacing.budget import owner_redis
from pacing.budget.quarantine import FAILOVER, clock_time
from pacing.budget.redis_store import RedisStore, creator_ids, noted_epochs
from pacing.ledger.errors import LedgerInUse
from pacing.redis_link import RedisLink, RedisUnavailable

_PATIENCE_S = 60.0
_STEP_S = 0.1


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
        help="its directory is gone: grants wait for it no longer; what it accepted and did not settle is not charged",
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
            elif args.lost:
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
    if args.owner is None or args.data is not None:
        raise ValueError("--lost: names the owner with --owner, and no --data")
    folder = owner_redis.owners(link).get(args.owner)
    if folder is None:
        raise ValueError(f"--owner {args.owner}: not one of this Redis; see fanbid owners list")
    if Path(folder).is_dir():
        raise ValueError(f"--lost: its directory {folder} is there; stop its server, and retire it with --data")
    _leave(link, args.redis, args.owner)
    print(f"owner {args.owner} is forgotten; grants wait for it no longer")


def _retire(link: RedisLink, args: argparse.Namespace) -> None:
    if args.data is None or args.owner is not None:
        raise ValueError("retire: takes --data DIR or, where that directory is gone, --owner N --lost")
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
    finally:
        services.close()
    _leave(link, args.redis, owner_id)
    owner_redis.mark_retired(args.data)
    print(f"owner {owner_id} has settled all that it accepted, and has left; its directory is history now")


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


def _leave(link: RedisLink, url: str, owner_id: int) -> None:
    store = RedisStore(url, owner_id)
    store.retire(creator_ids(link))
    store.close()
    owner_redis.forget(link, owner_id)
