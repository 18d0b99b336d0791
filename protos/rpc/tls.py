"""Certificates for both ends of a connection: read once, checked before use, errors that name the file."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a server proves who it is, and whether callers must.

    Attributes:
        certificate, key: PEM files; the certificate may bring its chain.
        client_ca: PEM file of the authorities whose certificates callers must show; None: they need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """See whether the files can be used.

        Raises:
            ValueError: one is missing or malformed, or the key is not the certificate's.
        """
        _check_pair(self.certificate, self.key)
        if self.client_ca is not None:
            _check_authorities(self.client_ca)

    def credentials(self) -> grpc.ServerCredentials:
        """For a secure port.

        Raises:
            ValueError: as `check`.
        """
        self.check()
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        authorities = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Whom a client believes, and what it shows.

    Attributes:
        ca: PEM file of the authorities that may vouch for the server.
        certificate, key: PEM files of the client's own certificate; None: it shows none.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """See whether the files can be used.

        Raises:
            ValueError: one is missing or malformed, or only one of certificate and key is given.
        """
        _check_authorities(self.ca)
        if (self.certificate is None) != (self.key is None):
            raise ValueError("client certificate: needs both a certificate and its key")
        if self.certificate is not None and self.key is not None:
            _check_pair(self.certificate, self.key)

    def credentials(self) -> grpc.ChannelCredentials:
        """For a secure channel.

        Raises:
            ValueError: as `check`.
        """
        self.check()
        key = None if self.key is None else self.key.read_bytes()
        certificate = None if self.certificate is None else self.certificate.read_bytes()
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), key, certificate)


def open_channel(address: str, tls: ClientTls | None, options: Sequence[tuple[str, object]]) -> grpc.Channel:
    """A channel to `address`, encrypted if `tls` says so."""
    if tls is None:
        return grpc.insecure_channel(address, options=list(options))
    return grpc.secure_channel(address, tls.credentials(), options=list(options))


def _check_pair(certificate: Path, key: Path) -> None:
    for file in (certificate, key):
        _check_readable(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        if why == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key}: not the key of the certificate {certificate}") from None
        raise ValueError(f"{certificate}, {key}: not a PEM certificate and its unencrypted PEM key ({why})") from None


def _check_authorities(file: Path) -> None:
    _check_readable(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError as error:
        raise ValueError(f"{file}: no PEM certificates of authorities ({error.reason})") from None


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
