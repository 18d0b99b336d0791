"""Pages of the dashboard in a real browser, which may load nothing from elsewhere and must raise no error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page

WAIT_MS = 15_000


@contextmanager
def pages_of(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Gives what opens a path in a context of its own; on leaving, says what any of the pages did that it must not."""
    contexts, problems = [], []

    def opened(path: str = "/", locale: str = "en-US", **options: Any) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((address, "data:", f"blob:{address}")) or problems.append(request.url)
            ),
        )
        page.goto(address + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
