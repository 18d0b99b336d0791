"""Settings of `fanbid serve`: flags, their environment twins, and errors that name key, value and range."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from auction.config import BadSetting, ServeConfig, config_from, configure, unread_variables


def parse(*flags: str, **environment: str) -> ServeConfig:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    configure(parser)
    return config_from(parser.parse_args(flags), environment)


def test_defaults() -> None:
    assert parse() == ServeConfig()


def test_every_setting_has_a_flag_and_a_twin_in_the_help() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    text = " ".join(parser.format_help().split())
    for field in fields(ServeConfig):
        assert f"--{field.name.replace('_', '-')}" in text
        assert f"FANBID_{field.name.upper()}" in text


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"FANBID_WORKERS": "7", "FANBID_SEED": "9", "FANBID_OTHER": "x"}
    config = parse("--workers", "3", **environment)
    assert (config.workers, config.seed, config.listen) == (3, 9, "127.0.0.1:7070")


def test_all_values_from_flags(tmp_path: Path) -> None:
    past = tmp_path / "past.npz"
    past.touch()
    config = parse(
        *("--data", str(tmp_path), "--listen", "[::1]:0", "--rest-listen", "0.0.0.0:8080", "--no-rest", "--no-bridge"),
        *("--ready-file", str(tmp_path / "ready"), "--fan-service", "localhost:9000", "--virtual-clock", "5"),
        *("--policy", "fixed", "--fixed-bid-micros", "1", "--unpaced-multiplier-micros", "2", "--history", str(past)),
        *("--model", str(past), "--seed", "0", "--currency", "USD", "--zone", "UTC", "--frequency-cap", "100"),
        *("--workers", "64", "--win-notice-ms", "100", "--billing-ms", "3600000"),
    )
    expected = ServeConfig(
        data=tmp_path,
        listen="[::1]:0",
        rest_listen="0.0.0.0:8080",
        ready_file=tmp_path / "ready",
        no_rest=True,
        no_bridge=True,
        fan_service="localhost:9000",
        virtual_clock=5,
        policy="fixed",
        fixed_bid_micros=1,
        unpaced_multiplier_micros=2,
        history=past,
        model=past,
        seed=0,
        currency="USD",
        zone="UTC",
        frequency_cap=100,
        workers=64,
        win_notice_ms=100,
        billing_ms=3_600_000,
    )
    assert config == expected


@pytest.mark.parametrize(("text", "meant"), [("1", True), ("true", True), ("YES", True), ("0", False), ("", False)])
def test_switches_in_the_environment(text: str, meant: bool) -> None:
    assert parse(FANBID_NO_REST=text).no_rest is meant


BAD = [
    ("workers", "0", "not in 1..64"),
    ("workers", "65", "not in 1..64"),
    ("workers", "four", "not a whole number in 1..64"),
    ("workers", "1.5", "not a whole number in 1..64"),
    ("seed", "-1", "not in 0..9223372036854775807"),
    ("frequency_cap", "101", "not in 1..100"),
    ("win_notice_ms", "99", "not in 100..600000"),
    ("billing_ms", "999", "not in 1000..3600000"),
    ("fixed_bid_micros", "10000000001", "not in 1..10000000000"),
    ("virtual_clock", "soon", "not a whole number"),
    ("policy", "best", "not one of engine, fixed, unpaced"),
    ("listen", "7070", "not HOST:PORT with a port in 0..65535"),
    ("listen", "localhost:65536", "not HOST:PORT"),
    ("rest_listen", ":80", "not HOST:PORT"),
    ("fan_service", "host:x", "not HOST:PORT"),
    ("history", "/nowhere/past.npz", "no such file"),
    ("model", "", "no such file"),
    ("data", "", "empty"),
    ("ready_file", "", "empty"),
    ("currency", "yuan", "not a three-letter ISO 4217 code such as CNY"),
    ("currency", "cny", "not a three-letter"),
    ("zone", "Mars/Olympus", "not a time zone of the IANA database"),
]


@pytest.mark.parametrize(("name", "text", "why"), BAD)
def test_errors_name_key_value_and_range(name: str, text: str, why: str) -> None:
    flag, variable = f"--{name.replace('_', '-')}", f"FANBID_{name.upper()}"
    for refused, key in ((lambda: parse(flag, text), flag), (lambda: parse(**{variable: text}), variable)):
        with pytest.raises(BadSetting) as error:
            refused()
        assert str(error.value).startswith(f"{key} {text!r}: ") and why in str(error.value)


@pytest.mark.parametrize("url", ["unix://name:hush@x", "hush", "redis://name:hush@127.0.0.1:x"])
def test_a_url_of_no_redis_is_refused_without_its_password(url: str) -> None:
    for key, refused in (("--redis", lambda: parse("--redis", url)), ("FANBID_REDIS", lambda: parse(FANBID_REDIS=url))):
        with pytest.raises(BadSetting, match=f"^{key}: redis URL '.*") as error:
            refused()
        assert "hush" not in str(error.value)


def test_a_switch_that_is_none() -> None:
    with pytest.raises(BadSetting, match="FANBID_NO_BRIDGE 'perhaps': not one of 0, 1, false, true, no, yes"):
        parse(FANBID_NO_BRIDGE="perhaps")


def test_a_zone_is_named_once() -> None:
    with pytest.raises(BadSetting) as error:
        parse("--zone", "Mars/X")
    assert str(error.value) == "--zone 'Mars/X': not a time zone of the IANA database, such as Asia/Shanghai"


def test_a_ready_file_needs_a_folder_and_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"--ready-file '.*': its folder .*nowhere does not exist"):
        parse("--ready-file", str(tmp_path / "nowhere" / "ready.json"))
    with pytest.raises(BadSetting, match=r"--ready-file '.*': a folder; must name a file"):
        parse("--ready-file", str(tmp_path))


def test_a_misspelt_variable_is_told_with_what_is_meant() -> None:
    environment = {f"FANBID_{field.name.upper()}": "1" for field in fields(ServeConfig)}
    environment |= {"FANBID_TRACEBACK": "1", "PATH": "/bin", "NOT_FANBID_WROKERS": "1"}
    assert unread_variables(environment) == []
    assert unread_variables({**environment, "FANBID_WROKERS": "8"}) == [
        "FANBID_WROKERS: no setting of this name, not read; FANBID_WORKERS?"
    ]
    assert unread_variables({"FANBID_ZZZZ": ""}) == ["FANBID_ZZZZ: no setting of this name, not read"]


def test_an_impression_cannot_be_due_before_its_win() -> None:
    with pytest.raises(BadSetting, match="--billing-ms 1000: less than --win-notice-ms 2000"):
        parse("--billing-ms", "1000")
