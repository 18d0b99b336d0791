"""What the controller remembers, as one block of bytes: kept over a restart, handed on to who paces a campaign next."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pacing.control.prior import MarketPrior
from pacing.control.state import CampaignState

if TYPE_CHECKING:
    from pacing.control.forecast import Forecaster

FORMAT_VERSION = 1
PAUSE_MS = 10_000
"""A controller that was away for longer does not take the silence of that time for a lack of viewers."""

_MAGIC = b"fanbpace"
_HEAD = struct.Struct("<8sI8s8sqqQ")  # magic, version, layout, prior, saved_at_ms, bucket, rows
_CRC = struct.Struct("<I")  # of everything before it


@dataclass(frozen=True)
class PacerMemory:
    """Some campaigns' rows of a `CampaignState`, and when that was.

    Attributes:
        saved_at_ms: wall clock.
        bucket: absolute number of the time-of-day bucket that was running.
        prior: digest of the market's past days, in whose terms the rows are told; 8 bytes.
        rows: of dtype `CampaignState.layout`.
    """

    saved_at_ms: int
    bucket: int
    prior: bytes
    rows: npt.NDArray[np.void]

    def to_bytes(self) -> bytes:
        """The bytes that `from_bytes` reads."""
        return b"".join(self._parts())

    def _parts(self) -> tuple[bytes, memoryview, bytes]:
        """Head, rows and sum; the rows are not copied."""
        layout = _layout_digest(self.rows.dtype)
        head = _HEAD.pack(_MAGIC, FORMAT_VERSION, layout, self.prior, self.saved_at_ms, self.bucket, len(self.rows))
        rows = np.ascontiguousarray(self.rows).view(np.uint8).data
        return head, rows, _CRC.pack(zlib.crc32(rows, zlib.crc32(head)))

    @classmethod
    def from_bytes(cls, packed: bytes, layout: np.dtype) -> PacerMemory:
        """Read what `to_bytes` made.

        Args:
            layout: `CampaignState.layout`.

        Raises:
            ValueError: the bytes are damaged, or of another version of the controller.
        """
        if len(packed) < _HEAD.size + _CRC.size or not packed.startswith(_MAGIC):
            raise ValueError("no memory of a pacer")
        body = memoryview(packed)[: -_CRC.size]
        if _CRC.unpack_from(packed, len(body))[0] != zlib.crc32(body):
            raise ValueError("damaged, or cut short")
        _, version, digest, prior, saved_at_ms, bucket, count = _HEAD.unpack_from(packed)
        if version != FORMAT_VERSION or digest != _layout_digest(layout):
            raise ValueError(f"format version {version}: of another controller than this one")
        if len(body) != _HEAD.size + count * layout.itemsize:
            raise ValueError(f"{len(body)} bytes of {count} campaigns: not as long as they say")
        rows = np.frombuffer(body, layout, offset=_HEAD.size)
        _check(rows)
        return cls(saved_at_ms, bucket, prior, rows)

    def save(self, path: Path) -> None:
        """Write a file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as out:
            out.writelines(self._parts())
        part.replace(path)

    def brought_forward(self, now_ms: int, state: CampaignState, forecaster: Forecaster) -> PacerMemory:
        """The same, as the controller would remember it if nothing had been seen since.

        After a pause of more than PAUSE_MS nothing is expected of that time: no traffic, no plan, no result.

        Args:
            state, forecaster: empty ones, that work on the same prior.
        """
        paused = now_ms - self.saved_at_ms > PAUSE_MS
        rows = state.put(self.rows)
        forecaster.begin(self.bucket)
        reached = forecaster.bucket_reached(now_ms)
        if paused:
            bucket = state.bucket[rows]
            start_ms, end_ms = forecaster.bucket_start_ms(bucket), forecaster.bucket_end_ms(bucket)
            watched_ms = np.maximum(self.saved_at_ms - np.maximum(state.joined_at_ms[rows], start_ms), 0)
            begun_ms = np.minimum(now_ms, end_ms) - watched_ms
            state.joined_at_ms[rows] = begun_ms
            for running in np.unique(bucket).tolist():
                forecaster.begin(running)
                forecaster.roll(rows[bucket == running], reached)
            forecaster.begin(reached)
            state.joined_at_ms[rows[bucket < reached]] = now_ms
            state.explored_at_ms[rows] = now_ms
            state.plan_rate[rows] = 0.0
            state.away[rows] = True
            state.solved_at_ms[rows] = now_ms
        return PacerMemory(now_ms if paused else self.saved_at_ms, forecaster.bucket, self.prior, state.taken(rows))


def prior_digest(prior: MarketPrior) -> bytes:
    """8 bytes that tell one market's past days from another's."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (prior.mean_log, prior.covariance, prior.noise, prior.value_curve, prior.cost_curve, prior.told_cdf):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(repr((prior.buckets, prior.midnight_offset_ms, sorted(prior.group_of.items()))).encode())
    return digest.digest()


def _layout_digest(layout: np.dtype) -> bytes:
    return hashlib.blake2b(repr(layout.descr).encode(), digest_size=8).digest()


def _check(rows: npt.NDArray[np.void]) -> None:
    """Refuse what no controller wrote.

    Raises:
        ValueError: a column has a value that is none.
    """
    if len(np.unique(rows["campaign_id"])) != len(rows):
        raise ValueError("campaign_id: one twice")
    for name in rows.dtype.names or ():
        column = rows[name]
        if column.dtype.kind == "f" and not bool(np.isfinite(column).all()):
            raise ValueError(f"{name}: has a value that is no number")
