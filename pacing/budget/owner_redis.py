"""Who this server is among those that share budgets: its owner id, taken once and kept in its data folder."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pacing.durable import sync_folder, whole_file
from pacing.redis_link import Guard, RedisLink

OWNER_FILE = "owner.json"
MAX_OWNER_ID = 2**16 - 1
_DEPLOYMENT = "fanbid:deployment"
_LOST = "lost "
"""Ahead of a deployment id: its servers found nothing here. No server begins anew there."""
_NEXT_OWNER = "fanbid:owners:next"
OWNERS = "fanbid:owners"
"""Hash of every owner that joined and did not leave: its data folder as it was then."""
RETIRED = "fanbid:owners:retired"
"""Set of every owner that left, for servers that heard of it before and not since."""


_RIGHT_WAY = (
    "Start Redis with the copy, or give the running one another replication id (REPLICAOF 127.0.0.1 1, then "
    "REPLICAOF NO ONE) and then put the copy back"
)


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
        ForeignFolder: the folder belongs to another deployment, or this Redis lost what it held: also a new folder
            does not begin anew there while servers of the lost deployment run, nor does an old one go on where what was
            lost is there again under the replication id under which its server saw it lost, or where the owner was
            taken for lost.
        RedisUnavailable: nobody answers.
    """
    path = folder / OWNER_FILE
    if path.is_file():
        owner = _read(path)
        if _is_retired(path):
            raise ForeignFolder(f"{path}: owner {owner.owner_id} has retired; begin with a new folder")
        (found,) = link.run([("GET", _DEPLOYMENT)])
        _refuse_lost(link, path, owner, found)
        if found is None or found.decode() != owner.deployment_id:
            raise ForeignFolder(
                f"{path}: of deployment {owner.deployment_id}; the Redis at {link.address} {_holds(found)}. "
                "Budgets are not guessed: start Redis with what it held, or begin with a new folder"
            )
        (is_gone,) = link.run([("SISMEMBER", RETIRED, owner.owner_id)])
        if is_gone:
            raise ForeignFolder(
                f"{path}: owner {owner.owner_id} was taken for lost (fanbid owners retire --lost), and others "
                "have spent its budgets since; begin with a new folder"
            )
        return owner
    link.run([("SETNX", _DEPLOYMENT, secrets.token_hex(8))])
    (found,) = link.run([("GET", _DEPLOYMENT)])
    if found is None or found.startswith(_LOST.encode()):
        raise ForeignFolder(
            f"the Redis at {link.address} {_holds(found)}, whose servers ran since: put back what it "
            f"held. To begin anew with new folders, stop all of its servers, then delete all keys fanbid:*"
        )
    owner = Owner(found.decode(), _draw(link))
    _list(link, owner, folder)
    _write(path, owner)
    return owner


def _refuse_lost(link: RedisLink, path: Path, owner: Owner, found: bytes | None) -> None:
    if found == owner.deployment_id.encode() and _lost_under(path) in link.replication_ids():
        link.run([("SET", _DEPLOYMENT, f"{_LOST}{owner.deployment_id}")])
        raise ForeignFolder(f"{path}: the Redis at {link.address} is not the right one: {_put_back(owner)}")
    if found == f"{_LOST}{owner.deployment_id}".encode():
        raise ForeignFolder(f"{path}: the Redis at {link.address} {_holds(found)}. {_RIGHT_WAY}")


def _list(link: RedisLink, owner: Owner, folder: Path) -> None:
    """Be among the owners; also one who was taken for gone and struck off."""
    link.run([("SREM", RETIRED, owner.owner_id), ("HSET", OWNERS, owner.owner_id, str(folder.resolve()))])


def _draw(link: RedisLink) -> int:
    """An owner id that nobody has. One that is listed is passed over: the counter may have gone back in a failover."""
    taken = owners(link)
    while True:
        (owner_id,) = link.run([("INCR", _NEXT_OWNER)])
        if owner_id > MAX_OWNER_ID:
            raise ForeignFolder(f"owner_id {owner_id}: all {MAX_OWNER_ID} of this deployment are used up")
        if owner_id not in taken:
            return int(owner_id)


def _holds(found: bytes | None) -> str:
    if found is None:
        return "is empty"
    text = found.decode(errors="replace")
    return f"lost deployment {text.removeprefix(_LOST)}" if text.startswith(_LOST) else f"holds deployment {text}"


def guard_of(owner: Owner) -> Guard:
    """By what the Redis that the owner joined is known."""

    def why_foreign(found: bytes | None) -> str | None:
        if found == owner.deployment_id.encode():
            return None
        then = f"until deployment {owner.deployment_id} is here again, nothing is granted and no campaign is changed"
        if found is None or found == lost:
            return f"it has lost deployment {owner.deployment_id}; put back what it held: {then}"
        return f"it {_holds(found)}, not {owner.deployment_id}; see where --redis leads: {then}"

    lost = f"{_LOST}{owner.deployment_id}".encode()
    put_back = f"{_put_back(owner)}: until then, nothing is granted and no campaign is changed"
    return Guard(_DEPLOYMENT, why_foreign, lost.decode(), put_back)


def _put_back(owner: Owner) -> str:
    return (
        f"deployment {owner.deployment_id} was put back into the running Redis that had lost it, which hides what the "
        f"copy lacks: it is lost again. {_RIGHT_WAY}"
    )


def note_lost(folder: Path, replication_id: str) -> None:
    """Keep in the folder under which replication id the Redis lost what it held, for a start after this process.

    Raises:
        ForeignFolder: the folder's file cannot be read.
        OSError: it cannot be written.
    """
    path = folder / OWNER_FILE
    _write(path, _read(path), _is_retired(path), replication_id)


def stay_listed(link: RedisLink, owner: Owner, folder: Path) -> None:
    """List an owner again, and let its id not be drawn again, in case a failover lost that it joined.

    Raises:
        RedisUnavailable: nobody answers.
    """
    counted, listed = link.run([("GET", _NEXT_OWNER), ("HGETALL", OWNERS)])
    if str(owner.owner_id).encode() not in listed:
        _list(link, owner, folder)
    behind = owner.owner_id - int(counted or 0)
    if behind > 0:
        link.run([("INCR", _NEXT_OWNER)] * behind)


def deployment_of(link: RedisLink) -> str:
    """What this Redis holds, in words.

    Raises:
        RedisUnavailable: nobody answers.
    """
    (found,) = link.run([("GET", _DEPLOYMENT)])
    return _holds(found)


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
    link.run([("SADD", RETIRED, owner_id), ("HDEL", OWNERS, owner_id)])


def mark_retired(folder: Path) -> None:
    """Let no server use the folder again: what it would accept, nobody would wait for."""
    path = folder / OWNER_FILE
    _write(path, _read(path), is_retired=True, lost_under=_lost_under(path))


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


def is_folder_of(link: RedisLink, folder: Path, owner_id: int) -> bool:
    """Whether the folder, on this machine, is that of an owner of this Redis's deployment.

    Raises:
        RedisUnavailable: nobody answers.
    """
    (found,) = link.run([("GET", _DEPLOYMENT)])
    with suppress(ForeignFolder):
        owner = _read(folder / OWNER_FILE)
        return owner.owner_id == owner_id and found == owner.deployment_id.encode()
    return False


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


def _lost_under(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8")).get("lost_under", ""))


def _write(path: Path, owner: Owner, is_retired: bool = False, lost_under: str = "") -> None:
    fields = {
        "deployment_id": owner.deployment_id, "owner_id": owner.owner_id,
        "is_retired": is_retired, "lost_under": lost_under,
    }  # fmt: skip
    with whole_file(path) as file:
        file.write(json.dumps(fields).encode())
    sync_folder(path.parent)
