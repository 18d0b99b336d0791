"""`fanbid rest`: campaigns and reports over HTTP, and the dashboard.

A process of its own that knows nothing but the engine's address: every answer comes from a gRPC call made with the
caller's token, so the engine alone decides who may see what.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from auction.rest import audiences, errors, lists
from auction.rest.connections import MAX_CONNECTIONS, PatientProtocol
from auction.rest.guards import BodyLimit, BrowserHeaders
from auction.rest.health import health_router
from auction.rest.routes import Engine, public_router, router
from protos.rpc.ready_file import remove_ready_file, write_ready_file
from protos.rpc.tls import ClientTls, ServerTls

STATIC = Path(__file__).parent / "static"
PARENT_CHECK_S = 0.5
CLOSE_TIMEOUT_S = 2
API_VERSION = "1"
_DESCRIPTION = (
    "Campaigns and their figures. Amounts are whole micros (millionths) of the deployment's currency, instants are "
    "milliseconds since 1970, ids are decimal strings. Every request carries `Authorization: Bearer TOKEN`."
)


def build_app(engine_address: str, engine_tls: ClientTls | None = None) -> FastAPI:
    """The shim in front of the engine at `engine_address` ("host:port" or "unix:PATH")."""

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = Engine(engine_address, engine_tls)
        try:
            yield
        finally:
            await app.state.engine.close()

    app = FastAPI(
        title="fanbid",
        version=API_VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=connected,
        swagger_ui_oauth2_redirect_url=None,
        separate_input_output_schemas=False,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(BrowserHeaders)
    errors.install(app)
    app.include_router(public_router)
    app.include_router(router)
    app.include_router(health_router)
    app.include_router(audiences.router)
    app.include_router(lists.router)
    app.add_api_route("/", _page("dashboard.html"), include_in_schema=False)
    app.add_api_route("/health", _page("health.html"), include_in_schema=False)
    app.add_api_route("/audiences", _page("audiences.html"), include_in_schema=False)
    app.add_api_route("/docs", _page("docs.html"), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.description = "Serve campaigns and the dashboard over HTTP, as a client of a running engine."
    parser.add_argument("--engine", required=True, metavar="HOST:PORT", help="where the engine's gRPC port is")
    parser.add_argument("--engine-ca", type=Path, metavar="FILE", help="call the engine over TLS, vouched for by these")
    parser.add_argument("--engine-cert", type=Path, metavar="FILE", help="certificate to show to the engine (PEM)")
    parser.add_argument("--engine-key", type=Path, metavar="FILE", help="key of --engine-cert (PEM)")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve over TLS with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="key of --tls-cert (PEM)")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT", help="where to serve; port 0: any")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written (JSON) once requests are served")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the program that started this ends")


def main(args: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises:
        ValueError: certificates cannot be used; the text names the flag.
    """
    engine_tls, tls = _engine_tls(args), _own_tls(args)
    try:
        listener = _listen(args.listen)
    except (ValueError, OSError) as error:
        print(f"fanbid rest: --listen {args.listen}: {error}", file=sys.stderr)
        return 1
    config = uvicorn.Config(
        build_app(args.engine, engine_tls),
        log_level="warning",
        access_log=False,
        server_header=False,
        http=PatientProtocol,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    _Server(config, args.ready_file, os.getppid() if args.exit_with_parent else 0).run(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    """Uvicorn that says when it is ready, and can end with its parent."""

    def __init__(self, config: uvicorn.Config, ready_file: Path | None, parent_pid: int) -> None:
        super().__init__(config)
        self._ready_file = ready_file
        self._parent_pid = parent_pid

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then write the ready file."""
        await super().startup(sockets)
        if self._ready_file is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            scheme = "https" if self.config.is_ssl else "http"
            write_ready_file(self._ready_file, rest=f"{scheme}://{address}:{port}")

    async def main_loop(self) -> None:
        """Serve until told to stop, or until the parent is gone."""
        watch = asyncio.ensure_future(self._watch_parent())
        try:
            await super().main_loop()
        finally:
            watch.cancel()
            if self._ready_file is not None:
                remove_ready_file(self._ready_file)

    async def _watch_parent(self) -> None:
        while self._parent_pid:
            if os.getppid() != self._parent_pid:
                self.should_exit = True
            await asyncio.sleep(PARENT_CHECK_S)


def _page(name: str) -> Callable[[], Awaitable[FileResponse]]:
    async def page() -> FileResponse:
        return FileResponse(STATIC / name, media_type="text/html; charset=utf-8")

    return page


def _engine_tls(args: argparse.Namespace) -> ClientTls | None:
    if args.engine_ca is None:
        if args.engine_cert is not None or args.engine_key is not None:
            raise ValueError("--engine-cert, --engine-key: need --engine-ca too")
        return None
    tls = ClientTls(args.engine_ca, args.engine_cert, args.engine_key)
    _check("--engine-ca, --engine-cert, --engine-key", tls)
    return tls


def _own_tls(args: argparse.Namespace) -> ServerTls | None:
    if args.tls_cert is None and args.tls_key is None:
        return None
    if args.tls_cert is None or args.tls_key is None:
        raise ValueError("--tls-cert, --tls-key: each needs the other")
    tls = ServerTls(args.tls_cert, args.tls_key)
    _check("--tls-cert, --tls-key", tls)
    return tls


def _check(flags: str, tls: ClientTls | ServerTls) -> None:
    try:
        tls.check()
    except ValueError as error:
        raise ValueError(f"{flags}: {error}") from None


def _listen(address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must read HOST:PORT, with a port from 0 to 65535")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, int(port)), family=family, backlog=512)
    # Connections inherit this. asyncio does it only for sockets that name their protocol; without it, an answer's body
    # waits up to 40 ms for the acknowledgement of its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
