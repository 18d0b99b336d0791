"""Settings of `fanbid serve`: one table makes the flags, their environment twins and their checks."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from pacing.days import zone_of
from pacing.money import MAX_PRICE_MICROS
from pacing.redis_url import shown_url
from protos.rpc.ready_file import new_file
from protos.rpc.tls import ClientTls, ServerTls

ENVIRONMENT_PREFIX = "FANBID_"
TRACEBACK_VARIABLE = ENVIRONMENT_PREFIX + "TRACEBACK"
"""No setting: `fanbid.py` reads it when a command is refused."""
TOKEN_VARIABLE = ENVIRONMENT_PREFIX + "TOKEN"  # of commands that call a server
REDIS_ADMIN_VARIABLE = ENVIRONMENT_PREFIX + "REDIS_ADMIN"
"""No setting: URL of a shared Redis for the operator's commands, whose account may more than a server's."""
POLICIES = ("engine", "fixed", "unpaced")


class BadSetting(ValueError):
    """A flag or environment variable has a value that cannot be used; the text names it, the value and the range."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Everything that a server is told at start. Defaults are those of the flags."""

    data: Path | None = None
    redis: str = ""
    listen: str = "127.0.0.1:7070"
    rest_listen: str = "127.0.0.1:7080"
    ready_file: Path | None = None
    no_rest: bool = False
    no_bridge: bool = False
    fan_service: str = ""
    virtual_clock: int = 0
    policy: str = "engine"
    fixed_bid_micros: int = 20_000
    unpaced_multiplier_micros: int = 1_000_000
    history: Path | None = None
    model: Path | None = None
    seed: int = 1
    currency: str = "CNY"
    zone: str = "Asia/Shanghai"
    frequency_cap: int = 4
    workers: int = 4
    win_notice_ms: int = 2_000
    billing_ms: int = 60_000
    cost_excess_exponent: float = math.inf
    calls_per_s: int = 10_000
    call_burst: int = 20_000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    fan_service_ca: Path | None = None

    @property
    def tls(self) -> ServerTls | None:
        """How this server proves who it is; None: its ports are not encrypted."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return ServerTls(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def fan_service_tls(self) -> ClientTls | None:
        """How to call the fan service: with this server's own certificate, if it has one; None: not encrypted."""
        return None if self.fan_service_ca is None else ClientTls(self.fan_service_ca, self.tls_cert, self.tls_key)


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    convert: Callable[[str], object]
    metavar: str
    help: str


def _integer(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"not a whole number in {low}..{high}") from None
        if not low <= value <= high:
            raise ValueError(f"not in {low}..{high}")
        return value

    return convert


def _decimal(low: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"not a number of at least {low}") from None
        if not value >= low:
            raise ValueError(f"not a number of at least {low}")
        return value

    return convert


def _choice(*allowed: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"not one of {', '.join(allowed)}")
        return text

    return convert


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise ValueError("not HOST:PORT with a port in 0..65535 (0: any free one)")
    return text


def _path(text: str) -> Path:
    if not text:
        raise ValueError("empty; must name a path")
    return Path(text)


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError("no such file")
    return path


def _zone(text: str) -> str:
    try:
        zone_of(text)
    except ValueError:
        raise ValueError("not a time zone of the IANA database, such as Asia/Shanghai") from None
    return text


def _currency(text: str) -> str:
    if len(text) != 3 or not text.isascii() or not text.isalpha() or not text.isupper():
        raise ValueError("not a three-letter ISO 4217 code such as CNY")
    return text


def _redis_url(text: str) -> str:
    shown_url(text)  # refuses what is none
    return text


def _switch(text: str) -> bool:
    if text.lower() not in ("0", "1", "false", "true", "no", "yes", ""):
        raise ValueError("not one of 0, 1, false, true, no, yes")
    return text.lower() in ("1", "true", "yes")


_SETTINGS = (
    _Setting("data", _path, "DIR", "where ledger, campaigns and keys live; without it, in memory and gone at the end"),
    _Setting("redis", _redis_url, "URL", "share campaigns and budgets with all servers of this Redis; needs --data"),
    _Setting("listen", _address, "HOST:PORT", "where gRPC is served; port 0 takes a free one"),
    _Setting("rest_listen", _address, "HOST:PORT", "where the REST shim and the dashboard are served"),
    _Setting("ready_file", new_file, "FILE", "written, with the addresses as JSON, once healthy; removed at the start"),
    _Setting("no_rest", _switch, "", "start no REST shim"),
    _Setting("no_bridge", _switch, "", "exchange nothing with a fan service"),
    _Setting("fan_service", _address, "HOST:PORT", "the fan service to exchange tiers, events and outcomes with"),
    _Setting(
        "virtual_clock", _integer(0, 4_102_444_800_000), "START_AT_MS",
        "demonstrations: time stands still until a client advances it",
    ),
    _Setting(
        "policy", _choice(*POLICIES), "NAME",
        "how to bid: engine; for comparison fixed (the same bid always) or unpaced (target times probability)",
    ),
    _Setting("fixed_bid_micros", _integer(1, MAX_PRICE_MICROS), "MICROS", "the bid of --policy fixed"),
    _Setting(
        "unpaced_multiplier_micros", _integer(1, 10**12), "MICROS",
        "worth of one event to automatic campaigns under --policy unpaced",
    ),
    _Setting("history", _existing_file, "FILE", "past days' prices and traffic by time of day (npz)"),
    _Setting("model", _existing_file, "FILE", "predictor state to start from when the data folder has none (npz)"),
    _Setting("seed", _integer(0, 2**63 - 1), "N", "seeds tie-breaking and exploration"),
    _Setting("currency", _currency, "CODE", "the one currency of this deployment"),
    _Setting("zone", _zone, "ZONE", "time zone in which frequency caps start a new day"),
    _Setting(
        "frequency_cap", _integer(1, 100), "N",
        "impressions of one creator per viewer and day, where a campaign names none",
    ),
    _Setting("workers", _integer(1, 64), "N", "gRPC worker threads"),
    _Setting("win_notice_ms", _integer(100, 600_000), "MS", "how long a bid waits for its WIN"),
    _Setting(
        "billing_ms", _integer(1_000, 3_600_000), "MS",
        "how long a WIN waits for its impression; the longer, the longer money stays reserved after a failure",
    ),
    _Setting(
        "cost_excess_exponent", _decimal(0.5), "Q",
        "how hard target costs are: inf keeps them; else events times min(1, (target / cost) ** Q) are maximised",
    ),
    _Setting("calls_per_s", _integer(0, 10**6), "N", "calls a second of the bearer of one token; 0: any number"),
    _Setting("call_burst", _integer(1, 10**7), "N", "calls at once of the bearer of one token who was quiet before"),
    _Setting("tls_cert", _existing_file, "FILE", "certificate (PEM, with its chain): gRPC and REST over TLS"),
    _Setting("tls_key", _existing_file, "FILE", "key of --tls-cert (PEM, not encrypted)"),
    _Setting("tls_client_ca", _existing_file, "FILE", "gRPC callers must show a certificate that these vouch for"),
    _Setting("fan_service_ca", _existing_file, "FILE", "call the fan service over TLS, where these vouch for it"),
)  # fmt: skip


def _flag(setting: _Setting) -> str:
    return "--" + setting.name.replace("_", "-")


def _variable(setting: _Setting) -> str:
    return ENVIRONMENT_PREFIX + setting.name.upper()


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `serve`; each names its environment twin and default in its help."""
    defaults = {field.name: field.default for field in fields(ServeConfig)}
    for setting in _SETTINGS:
        default = defaults[setting.name]
        shown = f"; default {default}" if default not in (None, False, "") else ""
        text = f"{setting.help} [{_variable(setting)}{shown}]".replace("%", "%%")
        if setting.convert is _switch:
            parser.add_argument(_flag(setting), action="store_const", const="1", default=None, help=text)
        else:
            parser.add_argument(_flag(setting), metavar=setting.metavar, default=None, help=text)


def config_from(args: argparse.Namespace, environment: Mapping[str, str] | None = None) -> ServeConfig:
    """The settings: a flag wins over its environment variable, which wins over the default.

    Raises:
        BadSetting: a value cannot be used.
    """
    environment = os.environ if environment is None else environment
    chosen: dict[str, object] = {}
    for setting in _SETTINGS:
        text, source = getattr(args, setting.name, None), _flag(setting)
        if text is None:
            text, source = environment.get(_variable(setting)), _variable(setting)
        if text is None:
            continue
        try:
            chosen[setting.name] = setting.convert(text)
        except ValueError as refused:
            given = source if setting.convert is _redis_url else f"{source} {text!r}"  # a URL may hold a password
            raise BadSetting(f"{given}: {refused}") from None
    config = ServeConfig(**chosen)  # type: ignore[arg-type]
    if config.billing_ms < config.win_notice_ms:
        raise BadSetting(f"--billing-ms {config.billing_ms}: less than --win-notice-ms {config.win_notice_ms}")
    _check_shared(config)
    _check_tls(config)
    return config


def unread_variables(environment: Mapping[str, str]) -> list[str]:
    """One line for each variable that is named like a setting and is none; says which one may be meant."""
    known = [*(_variable(setting) for setting in _SETTINGS), TRACEBACK_VARIABLE, REDIS_ADMIN_VARIABLE, TOKEN_VARIABLE]
    lines = []
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            meant = get_close_matches(name, known, n=1, cutoff=0.8)
            lines.append(f"{name}: no setting of this name, not read" + (f"; {meant[0]}?" if meant else ""))
    return lines


def _check_shared(config: ServeConfig) -> None:
    if config.redis and config.data is None:
        raise BadSetting("--redis: needs --data too: this server's own ledger is what its claims are settled from")
    if config.redis and config.virtual_clock:
        raise BadSetting("--redis: not with --virtual-clock; a Redis keeps time of its own")


def _check_tls(config: ServeConfig) -> None:
    if (config.tls_cert is None) != (config.tls_key is None):
        given, missing = ("--tls-cert", "--tls-key") if config.tls_key is None else ("--tls-key", "--tls-cert")
        raise BadSetting(f"{given} {config.tls_cert or config.tls_key}: needs {missing} too")
    if config.tls_client_ca is not None and config.tls is None:
        raise BadSetting(f"--tls-client-ca {config.tls_client_ca}: needs --tls-cert and --tls-key too")
    for flag, tls in (
        ("--tls-cert, --tls-key, --tls-client-ca", config.tls),
        ("--fan-service-ca", config.fan_service_tls),
    ):
        try:
            if tls is not None:
                tls.check()
        except ValueError as refused:
            raise BadSetting(f"{flag}: {refused}") from None
