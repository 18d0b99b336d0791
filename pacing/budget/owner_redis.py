"""Who this server is among those that share budgets: its owner id, taken once and kept in its data folder."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pacing.durable import sync_folder
from pacing.redis_link import RedisLink

OWNER_FILE = "owner.json"
MAX_OWNER_ID = 2**16 - 1
_DEPLOYMENT = "fanbid:deployment"
_NEXT_OWNER = "fanbid:owners:next"
OWNERS = "fanbid:owners"
"""Hash of every owner that joined and did not leave: its data folder as it was then."""


class ForeignFolder(ValueError):
    """A data folder and a Redis that do not belong together."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One ledger among those whose budgets one Redis holds.

    Attributes:
        deployment_id: names the Redis's content; one that came back empty has another, or none.
        owner_id: 1..MAX_OWNER_ID; never given twice in a deployment.
    """

    deployment_id: str
    owner_id: int


def join(link: RedisLink, folder: Path) -> Owner:
    """Be the owner that the folder says, or a new one if it was never used.

    Raises:
        ForeignFolder: the folder belongs to another deployment, or this Redis lost what it held.
        RedisUnavailable: nobody answers.
    """
    path = folder / OWNER_FILE
    if path.is_file():
        owner = _read(path)
        if _is_retired(path):
            raise ForeignFolder(f"{path}: owner {owner.owner_id} has retired; begin with a new folder")
        (found,) = link.run([("GET", _DEPLOYMENT)])
        if found is None or found.decode() != owner.deployment_id:
            holds = "is empty" if found is None else f"holds deployment {found.decode()}"
            raise ForeignFolder(
                f"{path}: of deployment {owner.deployment_id}; the Redis at {link.address} {holds}. "
                "Budgets are not guessed: put back what that Redis held, or begin with a new folder"
            )
        return owner
    link.run([("SETNX", _DEPLOYMENT, secrets.token_hex(8))])
    found, owner_id = link.run([("GET", _DEPLOYMENT), ("INCR", _NEXT_OWNER)])
    if owner_id > MAX_OWNER_ID:
        raise ForeignFolder(f"owner_id {owner_id}: all {MAX_OWNER_ID} of this deployment are used up")
    owner = Owner(found.decode(), int(owner_id))
    link.run([("HSET", OWNERS, owner.owner_id, str(folder.resolve()))])
    _write(path, owner)
    return owner


def owners(link: RedisLink) -> dict[int, str]:
    """Every owner that joined and did not leave, with its data folder as it was then.

    Raises:
        RedisUnavailable: nobody answers.
    """
    (found,) = link.run([("HGETALL", OWNERS)])
    return {int(owner_id): folder.decode(errors="replace") for owner_id, folder in found.items()}


def forget(link: RedisLink, owner_id: int) -> None:
    """Strike an owner off the list; its id is not given again.

    Raises:
        RedisUnavailable: nobody answers.
    """
    link.run([("HDEL", OWNERS, owner_id)])


def mark_retired(folder: Path) -> None:
    """Let no server use the folder again: what it would accept, nobody would wait for."""
    _write(folder / OWNER_FILE, _read(folder / OWNER_FILE), is_retired=True)


def holds_deployment(link: RedisLink, owner: Owner) -> bool:
    """Whether the Redis is the one that the owner joined, or has lost everything since.

    Raises:
        RedisUnavailable: nobody answers.
    """
    (found,) = link.run([("GET", _DEPLOYMENT)])
    return found is None or found.decode() == owner.deployment_id


def owner_of(folder: Path) -> Owner:
    """The owner whose data folder this is, be it retired or not.

    Raises:
        ForeignFolder: its file cannot be read.
    """
    return _read(folder / OWNER_FILE)


def is_shared(folder: Path) -> bool:
    """Whether the folder is one whose budgets are in a Redis."""
    return (folder / OWNER_FILE).is_file()


def _read(path: Path) -> Owner:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        owner = Owner(str(fields["deployment_id"]), int(fields["owner_id"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ForeignFolder(f"{path}: not an owner file: {error!r}") from None
    if not 1 <= owner.owner_id <= MAX_OWNER_ID:
        raise ForeignFolder(f"{path}: owner_id {owner.owner_id}: not in 1..{MAX_OWNER_ID}")
    return owner


def _is_retired(path: Path) -> bool:
    return bool(json.loads(path.read_text(encoding="utf-8")).get("is_retired"))


def _write(path: Path, owner: Owner, is_retired: bool = False) -> None:
    part = path.with_name(f"{path.name}.part")
    fields = {"deployment_id": owner.deployment_id, "owner_id": owner.owner_id, "is_retired": is_retired}
    with part.open("w", encoding="utf-8") as out:
        json.dump(fields, out)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    sync_folder(path.parent)
