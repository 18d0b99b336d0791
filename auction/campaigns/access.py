"""Who may call what: bearer tokens, the roles they carry, and which calls a role opens.

A token reads `fanbid.<id>.<secret>`. The id finds the stored hash, the secret is compared against it in constant
time. Only the hash is stored, so a stolen file opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from auction.campaigns.limits import RateLimits
from auction.campaigns.model import MAX_ID, check_int
from auction.campaigns.store import CampaignStore, StoredToken

REFRESH_S = 1.0
"""How long a revoked token may go on working."""
SECRET_BYTES = 32
MAX_TOKEN_CHARACTERS = 128

_AUTHORIZATION = "authorization"
_SCHEME = "bearer "
_PREFIX = "fanbid"


class Role(StrEnum):
    """What a token's bearer is."""

    FEED = "feed"
    CREATOR = "creator"
    OPERATOR = "operator"


class Unauthenticated(Exception):
    """No token, or none that is valid."""


class Forbidden(Exception):
    """The token is valid, but its role does not open this call."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        creator_id: the creator that a creator's token stands for; 0 for the other roles.
    """

    role: Role
    creator_id: int
    token_id: int


_CREATOR_SIDE = frozenset({Role.CREATOR, Role.OPERATOR})
_FEED_SIDE = frozenset({Role.FEED})
_OPERATOR_ONLY = frozenset({Role.OPERATOR})
_ROLES_OF_SERVICE = {
    "Bidding": _FEED_SIDE,
    "Campaigns": _CREATOR_SIDE,
    "Audience": _OPERATOR_ONLY,
    "Simulation": frozenset({Role.FEED, Role.OPERATOR}),
}
_ROLES_OF_CALL = {
    "Bidding/Explain": _CREATOR_SIDE,
    "Audience/PutSegment": _CREATOR_SIDE,
    "Audience/ImportSegment": _CREATOR_SIDE,
    "Audience/ListSegments": _CREATOR_SIDE,
    "Audience/PutLookalike": _CREATOR_SIDE,
    "Audience/GetLookalike": _CREATOR_SIDE,
    "Audience/EstimateReach": _CREATOR_SIDE,
    "Audience/CompareCreators": _CREATOR_SIDE,
    "Audience/ExplainViewer": _CREATOR_SIDE,
}


_NOBODY: tuple[bytes, Principal | None] = (bytes(32), None)


def roles_for(call: str) -> frozenset[Role]:
    """The roles that may make a call such as "Bidding/Bid"; none for a call that does not exist."""
    return _ROLES_OF_CALL.get(call, _ROLES_OF_SERVICE.get(call.partition("/")[0], frozenset()))


class Access:
    """Makes, checks and revokes tokens. Every method may be called from any thread.

    Known tokens are checked in memory. At most once a second one of the calls reads the small token table again, over a
    connection that no writer can hold up; a token that another program just added is looked up at its first use.
    """

    def __init__(self, store: CampaignStore, limits: RateLimits | None = None) -> None:
        self._store = store
        self._limits = RateLimits(0, 1) if limits is None else limits
        self._refresh_lock = threading.Lock()
        self._known: dict[int, tuple[bytes, Principal]] = {}
        self._read_at_s = 0.0
        self.refresh()

    def create_token(self, role: Role | str, creator_id: int, now_ms: int) -> str:
        """Make a token and answer with it; it cannot be shown again.

        Args:
            creator_id: 1 to 2**64-1 for a creator's token, 0 for the other roles.

        Raises:
            ValueError: unknown role, or a creator id that does not go with it.
            StoreUnavailable: it could not be stored.
        """
        try:
            known_role = Role(role)
        except ValueError:
            raise ValueError(f"role {role!r}: must be one of {', '.join(Role)}") from None
        if known_role is Role.CREATOR:
            check_int("creator", creator_id, 1, MAX_ID)
        elif creator_id != 0:
            raise ValueError(f"creator {creator_id}: only a creator's token names a creator")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        token_id = self._store.add_token(_hash(secret), known_role.value, creator_id, now_ms)
        self.refresh()
        return f"{_PREFIX}.{token_id}.{secret}"

    def revoke(self, token_id: int, now_ms: int) -> bool:
        """Make a token invalid, here at once, elsewhere within a second; False if no valid one has this id."""
        revoked = self._store.revoke_token(token_id, now_ms)
        self.refresh()
        return revoked

    def refresh(self) -> None:
        """Read the token table again."""
        with self._refresh_lock:
            self._read()

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """Who sent this metadata.

        Args:
            metadata: of the call; names in lower case.

        Raises:
            Unauthenticated: no `authorization: Bearer TOKEN`, or the token is unknown, wrong or revoked.
        """
        for key, value in metadata:
            if key == _AUTHORIZATION:
                if not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
                    raise Unauthenticated("authorization: must read 'Bearer TOKEN'")
                return self.principal_of(value[len(_SCHEME) :].strip())
        raise Unauthenticated("authorization: missing; send 'authorization: Bearer TOKEN'")

    def authorize(self, metadata: Iterable[tuple[str, str | bytes]], call: str) -> Principal:
        """Who sent this metadata, if they may make `call`, such as "Bidding/Bid".

        Raises:
            Unauthenticated: as `authenticate`.
            Forbidden: the role does not open this call.
        """
        return self.permit(self.authenticate(metadata), call)

    def admit(self, metadata: Iterable[tuple[str, str | bytes]], call: str) -> Principal:
        """Who sent this metadata, if they may make `call` now: as `authorize`, and counts as one of their calls.

        Raises:
            Unauthenticated, Forbidden: as `authorize`.
            RateLimited: they called too often.
        """
        principal = self.authorize(metadata, call)
        self._limits.take(principal.token_id)
        return principal

    def permit(self, principal: Principal, call: str) -> Principal:
        """`principal`, if its role opens `call`.

        Raises:
            Forbidden: it does not.
        """
        allowed = roles_for(call)
        if principal.role not in allowed:
            names = " or ".join(sorted(allowed)) or "nobody"
            raise Forbidden(f"role {principal.role}: {call} is for {names}")
        return principal

    def principal_of(self, token: str) -> Principal:
        """Whom a token stands for.

        Raises:
            Unauthenticated: it is unknown, wrong or revoked.
        """
        token_id, secret = _parse(token)
        self._keep_fresh()
        secret_hash, principal = self._known.get(token_id) or self._look_up(token_id)
        if not hmac.compare_digest(_hash(secret), secret_hash) or principal is None:
            raise Unauthenticated("authorization: the token is not valid")
        return principal

    def _keep_fresh(self) -> None:
        if time.monotonic() - self._read_at_s < REFRESH_S:
            return
        if self._refresh_lock.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._refresh_lock.release()

    def _look_up(self, token_id: int) -> tuple[bytes, Principal | None]:
        """What the store says now of a token that was not there when the table was read."""
        token = self._store.token(token_id)
        return _NOBODY if token is None or token.revoked_at_ms else _entry(token)

    def _read(self) -> None:
        self._known = {token.token_id: _entry(token) for token in self._store.tokens() if token.revoked_at_ms == 0}
        self._read_at_s = time.monotonic()


def _entry(token: StoredToken) -> tuple[bytes, Principal]:
    return token.secret_hash, Principal(Role(token.role), token.creator_id, token.token_id)


def _parse(token: str) -> tuple[int, str]:
    parts = token.split(".")
    well_formed = len(token) <= MAX_TOKEN_CHARACTERS and len(parts) == 3 and parts[0] == _PREFIX
    if not well_formed or not (parts[1].isascii() and parts[1].isdigit()):
        raise Unauthenticated("authorization: the token is not valid")
    return int(parts[1]), parts[2]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
