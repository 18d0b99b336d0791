"""Finds a Chromium for tests of the dashboard: the system's, else the one that playwright installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class NoBrowser(RuntimeError):
    """There is no browser to test with."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless Chromium, closed on leaving.

    Raises:
        NoBrowser: there is none; says what to install.
    """
    with sync_playwright() as playwright:
        found = next((path for name in SYSTEM_NAMES if (path := shutil.which(name))), None)
        executable = found or playwright.chromium.executable_path
        if not Path(executable).exists():
            raise NoBrowser(
                "no browser for the dashboard's tests: install Debian's package 'chromium' (apt install chromium), "
                "or run 'python -m playwright install chromium'"
            )
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
