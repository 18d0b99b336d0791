"""Addresses of Redis: checked before anything is sent, and shown without name and password."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("redis", "rediss")


def shown_url(url: str) -> str:
    """Scheme, host, port and database of a URL, as messages may show them.

    Raises:
        ValueError: the URL cannot be used; the text shows nothing of it that may be secret.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"redis URL {_cut(url)!r}: must begin with redis:// or rediss://")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or "@" in rest.partition(parts.netloc)[2]:
        raise ValueError(
            f"redis URL '{scheme}://...': must be {scheme}://NAME:PASSWORD@HOST:PORT, with a port in 1..65535; "
            "other characters than letters and digits in name and password must be written as %40 and the like"
        )
    shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    database = parts.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError(f"redis URL {shown!r}: after the address only the number of a database, such as /3")
    return shown


def _cut(url: str) -> str:
    """What is certainly no secret of something that is no URL of Redis."""
    scheme, separator, rest = url.partition("://")
    if not separator or "@" in rest or "?" in rest:
        return f"{scheme if separator else ''}..."
    return url
