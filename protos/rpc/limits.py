"""What a caller may ask of a gRPC server of this project before it is cut off; one set for all of them."""

from __future__ import annotations

MAX_REQUEST_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_CONNECTIONS = 512
"""More are closed at once: connections are files, and the ledger needs some of those too."""
MAX_STREAMS_PER_CONNECTION = 256
MAX_CALLS = 1_024
"""Calls that a server has taken and not answered; more are refused, so that a backlog cannot grow without bound."""
MAX_METADATA_BYTES = 8 * 1024
HANDSHAKE_TIMEOUT_S = 5.0
"""How long a connection may take until HTTP/2 settings are exchanged, TLS included."""
MESSAGE_TIMEOUT_S = 5.0
"""How long a call may take to send its message once it has begun."""
IDLE_S = 300.0
"""A connection without calls is closed after this; clients reconnect by themselves."""
MAX_CONNECTION_AGE_S = 3_600.0
"""A connection is closed after this, give or take a tenth, so that certificates are checked again."""
CONNECTION_GRACE_S = 30.0
"""How long the calls of a connection that is too old may go on."""
KEEPALIVE_S = 30.0
KEEPALIVE_TIMEOUT_S = 10.0
MIN_PING_INTERVAL_S = 10.0
"""Clients may ping this often; one that does so more often is told to go away after three pings too many."""


def _ms(seconds: float) -> int:
    return int(1_000 * seconds)


SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),  # else what lies between the two is refused by chance
    ("grpc.server_handshake_timeout_ms", _ms(HANDSHAKE_TIMEOUT_S)),
    ("grpc.http2.settings_timeout", _ms(HANDSHAKE_TIMEOUT_S)),
    ("grpc.max_connection_idle_ms", _ms(IDLE_S)),
    ("grpc.max_connection_age_ms", _ms(MAX_CONNECTION_AGE_S)),
    ("grpc.max_connection_age_grace_ms", _ms(CONNECTION_GRACE_S)),
    ("grpc.keepalive_time_ms", _ms(KEEPALIVE_S)),
    ("grpc.keepalive_timeout_ms", _ms(KEEPALIVE_TIMEOUT_S)),
    ("grpc.http2.ping_timeout_ms", _ms(KEEPALIVE_TIMEOUT_S)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", _ms(MIN_PING_INTERVAL_S)),
    ("grpc.http2.max_ping_strikes", 2),
)
"""Channel arguments of grpc core. Its own handshake timeout is two minutes."""
