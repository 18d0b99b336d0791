"""What changed since a picture was taken, few enough to be laid over it again at each further change."""

from __future__ import annotations

import numpy as np
from pyroaring import BitMap

from targeting.segments.memberships import change_keys

FRESH_MOST = 4_096
"""Changed memberships that are kept: what laying them over a picture costs is bounded, tens of microseconds."""

_ROW_AND_SEGMENT = np.uint64(2**64 - 2)


class FreshChanges:
    """Rows that segments gained or lost, the last word of each. Callers take turns.

    Attributes:
        keys: u8[m], ascending, as `merge_changes` wants them.
    """

    def __init__(self) -> None:
        self.keys = np.zeros(0, np.uint64)
        self._revisions = np.zeros(0, np.int64)

    def note(self, segment: int, gained: BitMap, lost: BitMap, revision: int) -> bool:
        """Keep a change; False where it would be too much, and is not kept.

        Args:
            segment: its number.
            gained, lost: rows.
            revision: higher than those of all changes before.
        """
        count = len(gained) + len(lost)
        if len(self.keys) + count > FRESH_MOST:
            return False
        told = np.sort(np.concatenate([change_keys(gained, segment, True), change_keys(lost, segment, False)]))
        stays = ~np.isin(self.keys & _ROW_AND_SEGMENT, told & _ROW_AND_SEGMENT)
        keys = np.concatenate([self.keys[stays], told])
        revisions = np.concatenate([self._revisions[stays], np.full(count, revision, np.int64)])
        order = np.argsort(keys, kind="stable")
        self.keys, self._revisions = keys[order], revisions[order]
        return True

    def forget(self, revision: int) -> None:
        """Drop the changes up to this revision."""
        stays = self._revisions > revision
        self.keys, self._revisions = self.keys[stays], self._revisions[stays]
