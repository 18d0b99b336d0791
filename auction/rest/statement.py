"""A campaign's statement as a file: comma-separated lines, fetched page by page while they are sent."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from starlette.responses import StreamingResponse

from auction.audit.lines import HEADER, line_of
from auction.rest.convert import charge_fields
from protos import campaigns_pb2 as pb

CSV_PAGE = 1_000

PageOf = Callable[[int, int], Awaitable[pb.ListChargesResponse]]
"""The page behind a sequence, as the list was at a row of the ledger (0: now)."""


async def statement_response(campaign_id: str, page_of: PageOf) -> StreamingResponse:
    """Answer with all charges of a campaign, once the first page has come; the others are of the same row.

    A page that fails later breaks the answer off, so that nobody takes a part for the whole.

    Raises:
        grpc.aio.AioRpcError: the first page was refused.
    """
    first = await page_of(0, 0)
    headers = {
        "Content-Disposition": f'attachment; filename="campaign-{campaign_id}-charges.csv"',
        "Cache-Control": "no-store",
        "Ledger-Sequence": str(first.ledger_sequence),
    }
    return StreamingResponse(_lines(first, page_of), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(first: pb.ListChargesResponse, page_of: PageOf) -> AsyncIterator[bytes]:
    yield _csv([HEADER])
    page = first
    while True:
        yield _csv(line_of(charge_fields(charge)) for charge in page.charges)
        # Row 0 would mean "as it is now"; at row 0 there is no second page.
        if not page.next_after:
            return
        page = await page_of(page.next_after, first.ledger_sequence)


def _csv(lines: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()
