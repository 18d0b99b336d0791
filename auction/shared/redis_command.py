"""`fanbid redis`: the account under which servers may use a shared Redis, and the scripts that it may run."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

from auction.shared.redis_account import MIN_PASSWORD, SCRIPTS, acl_line
from pacing.redis_link import RedisLink, RedisUnavailable

ADMIN_URL_VARIABLE = "FANBID_REDIS_ADMIN"
EXIT_UNAVAILABLE = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = (
        "Print the ACL SETUSER command (Redis 6.2 and later) for an account that may use fanbid's keys, "
        "and send only what fanbid sends. Run it on every server, replicas too. The account runs scripts that are "
        "loaded, and no others."
    )
    account = actions.add_parser("account", help="print the command that makes an account", description=text)
    account.add_argument("--name", default="fanbid", help="the account's name; default fanbid")
    account.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help=f"the password, {MIN_PASSWORD} characters or more, is the first line of this file; without it, one is "
        "made and shown once, on stderr",
    )
    account.add_argument(
        "--may-load", action="store_true", help="let the account load scripts itself; it may then run any script"
    )
    text = (
        "Load the scripts of this version, which an account without --may-load cannot do: first, after an update, and "
        "wherever a server came up without them."
    )
    load = actions.add_parser("load", help="load the scripts that servers run", description=text)
    load.add_argument(
        "--redis",
        metavar="URL",
        help="of the Redis, or of any node of the cluster, with an account that may SCRIPT LOAD; without it, "
        f"{ADMIN_URL_VARIABLE}, which other accounts of this machine cannot read",
    )


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 when done, 1 if Redis cannot be reached or refuses.

    Raises:
        ValueError: a flag cannot be used.
    """
    if args.action == "load":
        return _load(administrators_url(args.redis))
    password = secrets.token_urlsafe(32) if args.password_file is None else _password_in(args.password_file)
    line = acl_line(args.name, password, args.may_load)
    if args.password_file is None:
        print(f"redis://{args.name}:{password}@HOST:PORT", file=sys.stderr)
    print(line)
    return 0


def _password_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError as error:
        raise ValueError(f"--password-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"--password-file {path}: not text in UTF-8") from None


def administrators_url(given: str | None) -> str:
    """The URL that an operator's command was given, else that of the environment.

    Raises:
        ValueError: there is neither.
    """
    url = given or os.environ.get(ADMIN_URL_VARIABLE, "")
    if not url:
        raise ValueError(f"--redis: missing, and {ADMIN_URL_VARIABLE} is not set")
    return url


def _load(url: str) -> int:
    try:
        link = RedisLink(url)
        try:
            servers = link.load(SCRIPTS)
        finally:
            link.close()
    except RedisUnavailable as error:
        print(f"fanbid redis load: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    print(f"{len(SCRIPTS)} scripts loaded into {servers} {'server' if servers == 1 else 'servers'}")
    return 0
