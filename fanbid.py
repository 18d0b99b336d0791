"""The command `fanbid`: maps each subcommand to the module that does it.

A module behind a subcommand has `configure(parser)`, which adds its flags, and `main(args) -> int`, which runs it and
answers the exit code. It is imported only when its subcommand is asked for, so `fanbid --help` needs nothing but the
standard library.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auction.services import Services

ROOT = Path(__file__).resolve().parent
SOURCE_FOLDERS = ("pacing", "targeting", "auction", "fanbridge", "benchmarks")
STALE_CACHE_S = 14 * 86_400
BRIDGE_PERIOD_VIRTUAL_MS = 30_000
READY_FILE = "--ready-file"
READY_FILE_COMMANDS = {"serve": "FANBID_READY_FILE", "rest": "", "fan-service": ""}
"""What writes a file once it serves, with the variable that may name it."""
EXIT_BAD_INPUT = 2
REFUSED = (ValueError, FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What a command raises about a flag, a variable or a path that was given to it; anything else is a bug."""
EXIT_INTERRUPTED = 130

DESCRIPTION = """\
fanbid is a real-time ad auction engine for short-video creators who buy traffic to gain fans.

A creator states a goal ("fans, 300 yuan a day, at most 3 yuan a fan") and an audience. A feed server
asks, over gRPC, who bids what for the viewers that have a free slot now, and reports what became of it.
fanbid decides who is worth bidding for, how much, and how fast to spend: never a micro beyond a budget,
and on average no more per fan than the target.
"""

EXAMPLES = """\
examples:
  fanbid demo                                  watch a simulated market buy fans, with the dashboard open
  fanbid demo --headless --quick               the same in seconds, ending in a table
  fanbid serve --data ./fanbid-data            a real server on 127.0.0.1:7070 (gRPC) and :7080 (REST, dashboard)
  fanbid token create --role creator --creator 17 --data ./fanbid-data
  fanbid bench kernel                          what the compiled steps cost, beside plain Python

`fanbid COMMAND --help` explains a command and every flag of it. With FANBID_TRACEBACK=1 a refusal shows where it arose.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: the module behind it, and its line in the help (None: not listed)."""

    module: str
    summary: str | None
    description: str


COMMANDS = {
    "serve": Command(
        "auction.server",
        "serve bid requests over gRPC, with the REST shim and the dashboard",
        "Serve bid requests over gRPC until told to stop. Starts the REST shim with the dashboard, and the bridge to "
        "the fan service. Every flag has a twin in the environment: FANBID_ and the flag's name in capitals.",
    ),
    "demo": Command(
        "benchmarks.demo",
        "run a server in a simulated short-video market and watch it",
        "Start a server, the REST shim, the reference fan service and a simulated market that talks to them over gRPC "
        "in virtual time; show live progress, and end with a table of what each campaign got for its money.",
    ),
    "replay": Command(
        "benchmarks.replay",
        "replay logged auctions of real traffic against a server, and score it",
        "Start a server and replay a pack of logged auctions against it over gRPC: each campaign bids on its own "
        "logged impressions against its own logged rivals. Ends with a score for each campaign.",
    ),
    "bench": Command("", "measure one part: load, kernel, faults, ...", "Run one benchmark. Each ends with a table."),
    "token": Command(
        "auction.campaigns.token_command",
        "create, list and revoke access tokens",
        "Manage the bearer tokens that clients show: role feed (Bid, Report), creator (own campaigns) or operator. "
        "Works while a server runs on the same data folder.",
    ),
    "ledger": Command(
        "auction.audit.command",
        "show why each charge of a campaign was made, and verify all of them",
        "Explain and check charges from the ledger of a data folder, also while a server runs on it.",
    ),
    "keys": Command(
        "auction.bid.keys_command",
        "list, rotate and retire the keys that sign bids",
        "Manage the keys by which a server knows its own bids again when their outcomes are reported. Works while a "
        "server runs on the same data folder.",
    ),
    "owners": Command(
        "auction.owners_command",
        "list the servers that share budgets in a Redis, and retire one",
        "Manage the ledgers whose servers share the budgets of one Redis. A server that is stopped for good must "
        "retire, or grants wait for it after the next failover.",
    ),
    "outbox": Command(
        "fanbridge.outbox_command",
        "list outcomes that the fan service has not taken, and try them again",
        "Manage what the fan service has not taken. Works while a server runs on the same data folder.",
    ),
    "segments": Command(
        "auction.audience.segments_command",
        "import and export segments of a running server as Roaring bitmaps of viewer ids",
        "Change a segment of a running server by a file, whole or not at all, and write one to a file: viewer ids as a "
        "portable Roaring bitmap.",
    ),
    "fans": Command(
        "fanbridge.service.fans_command",
        "say why a fan is iron, count steps between stages, list churn alarms",
        "Explain fans from the folder of the reference fan service, also while it runs.",
    ),
    "redis": Command(
        "auction.shared.redis_command",
        "print the rights of an account of a shared Redis, and load its scripts",
        "Print the rights that servers need on a shared Redis, and load the scripts that they run there.",
    ),
    "audience": Command(
        "auction.audience.client",
        "upload lists of viewers to a running server, and make lookalikes of them",
        "Upload a CSV of viewers' ids, all or nothing, as a segment, or make a segment of the viewers most like them. "
        "FANBID_TOKEN holds an operator's token, or a creator's: the list is then this creator's own.",
    ),
    "rest": Command("auction.rest.app", None, "The REST shim and the dashboard, a gRPC client of a running server."),
    "fan-service": Command("fanbridge.service.server", None, "The reference fan service, in a process of its own."),
}

BENCHES = {
    "bidding": Command(
        "benchmarks.bidding.command",
        "the controller in simulated markets, beside the optimum that knows them",
        "Run the shipped controller through days of a simulated market: shocks, wrong predictions, late events, edited "
        "budgets. Ends with shares of the hindsight optimum and cost over target, beside reference methods.",
    ),
    "failover": Command(
        "benchmarks.failover.command",
        "shared budgets while their Redis dies and a replica takes over",
        "Spend shared budgets from three servers while the primary of their Redis is killed again and again and its "
        "replica lacks the last writes; then kill primaries of a cluster. Exits with 1 if a micro is lost or too much.",
    ),
    "fans": Command(
        "benchmarks.fans.command",
        "a million outcomes to the fan service through faults, deaths and an outage",
        "Hand outcomes to the reference fan service through lost calls, kill -9 on both sides and ten minutes without "
        "it. Exits with 1 if one of them was not applied exactly once.",
    ),
    "forgery": Command(
        "benchmarks.forgery",
        "forged, altered, replayed and late notices at a bank",
        "Send notices that nobody should believe to an engine that has charged real ones. Ends with a table, and with "
        "exit code 1 if a micro moved or an answer was not the documented one.",
    ),
    "fuzz": Command(
        "benchmarks.fuzz.run",
        "malformed input at every decoder and every door",
        "Feed malformed input to everything that decodes, and through sockets to a served engine. Ends with a table, "
        "and with exit code 1 if anything crashed, leaked or grew.",
    ),
    "damage": Command(
        "benchmarks.crashes.damage",
        "a killed server's ledger, damaged at every byte",
        "Cut the files of a killed server's ledger short at every byte, flip a bit of every byte, and open each "
        "copy. Ends with a table, and with exit code 1 if a damage was neither refused nor harmless.",
    ),
    "kills": Command(
        "benchmarks.crashes.kills",
        "a served engine killed again and again under load",
        "Kill a served engine at drawn moments, start it again on the same folder, and hold what it acknowledged "
        "against its ledger. Ends with a table, and with exit code 1 if anything was lost or charged beyond a budget.",
    ),
    "load": Command(
        "benchmarks.load",
        "requests per second and latency of a server under open-loop load",
        "Load a server at stated rates without waiting for its answers, beside a raw gRPC echo of the same payload.",
    ),
    "kernel": Command(
        "benchmarks.kernel",
        "nanoseconds per viewer of the compiled steps, beside plain Python",
        "Time the compiled bid path at 1,000 to 100,000 campaigns beside its plain Python reference.",
    ),
    "match": Command(
        "benchmarks.match.command",
        "nanoseconds to find a viewer's campaigns among 10,000 and 100,000, beside other ways",
        "Find the campaigns of viewers with realistic targeting by the match index, beside loops over sets and a "
        "counting k-index, after checking that all find the same.",
    ),
    "lookalike": Command(
        "benchmarks.lookalike.command",
        "who follows a creator next, on a public follow graph, beside ALS and others",
        "Teach the lookalike the past of a follow graph with times, and judge it by what came after, beside ALS, "
        "user-kNN and recent activity alone; then by a random split. Exits with 1 if a claim does not hold.",
    ),
    "loop": Command(
        "benchmarks.loop.command",
        "what it is worth to hear which of the bought fans left, or rose: kept fans, or worth of fans, per yuan",
        "Run campaigns that want kept fans through seven days of a simulated market, with and without word of who "
        "left, or, with --tiers, a worth of high tiers. Exits with 1 if 20 show no gain, or a budget was overspent.",
    ),
    "money": Command(
        "benchmarks.money",
        "claims settled, leases granted and outcomes made durable per second, beside bare storage",
        "Settle claims and grant leases on Redis, and append to the ledger, beside raw Redis and raw SQLite.",
    ),
    "predictor": Command(
        "benchmarks.predictor.command",
        "log-loss, bias under delay and calibration of the predictor, beside other learners",
        "Teach the shipped predictor seeded streams of impressions, at once and with follows that come late, beside "
        "FTRL of Vowpal Wabbit and of river. Exits with 1 if a run of full size shows that a claim does not hold.",
    ),
    "reach": Command(
        "benchmarks.reach",
        "how fast and how right the reach of audiences is told, beside brute force",
        "Count audiences among 10M viewers, and by brute force. Exits with 1 if a count is off by more than promised.",
    ),
    "segments": Command(
        "benchmarks.segments",
        "probes, counts and set algebra of segments, beside pyroaring",
        "Probe and combine segments of 1M and 10M viewers, beside pyroaring. Answers are compared first.",
    ),
    "similar": Command("benchmarks.similar", "similar creators, beside sparse matrices", "Find them by both ways."),
    "several": Command(
        "benchmarks.several",
        "four servers of one Redis spend one budget to the last bid, killed again and again",
        "Start real servers on one Redis, bid and report at all of them, and kill one after the other. Exits with 1 if "
        "a micro is lost or too much, if a bid that would fit is left, or if reports differ.",
    ),
    "recovery": Command(
        "benchmarks.crashes.recovery",
        "how much longer a start takes with a million rows in the ledger",
        "Let the engine live a day on a virtual clock, crash, and start again, beside one with an empty ledger.",
    ),
    "shading": Command(
        "benchmarks.shading.command",
        "share of an oracle's surplus that learned price landscapes and shading get",
        "Bid in first-price worlds whose prices are known, with the shipped landscapes and shading and every kind of "
        "feedback, beside an oracle that knows them. Exits with 1 if a bid lies under its floor or above its value.",
    ),
    "faults": Command(
        "benchmarks.faults.command",
        "the money code under seeded faults, with an auditor",
        "Play the money code in simulated worlds of crashes, lost answers, wrong clocks and full disks, each drawn "
        "from a seed, and audit every account. Exits with 1 when a world fails.",
    ),
}


def attach_bridge(services: Services) -> ExitStack | None:
    """Join the two halves of a server: start the bridge to the fan service that its configuration names, if any.

    Neither half imports the other; they meet in the ledger and in the audience. On virtual time the server's scheduler
    drives the bridge, in lockstep; on real time it has a thread of its own, so that a slow fan service delays nobody.

    Returns:
        What ends the bridge when it is closed.
    """
    config = services.config
    if config.no_bridge or not config.fan_service:
        return None
    from fanbridge.bridge import Bridge, BridgeSettings
    from fanbridge.client import FanServiceClient
    from fanbridge.delivery import DELIVERY_FILE, Delivery
    from fanbridge.health_service import HealthClient

    ending = ExitStack()
    client = FanServiceClient(config.fan_service, tls=config.fan_service_tls)
    ending.callback(client.close)
    delivery = Delivery(None if config.data is None else services.folder / DELIVERY_FILE)
    ending.callback(delivery.close)
    bridge = Bridge(
        client,
        delivery,
        viewers=services.viewers,
        segments=services.segments,
        append=services.ledger.append,
        read_judged=services.ledger.read_judged,
        follows=services.follows,
        on_retention=services.learner.kept_fans.judged,
        on_tiers=services.learner.kept_fans.told_tiers,
        audiences_of=services.audiences.names,
        settings=BridgeSettings(seed=config.seed),
    )
    ending.callback(bridge.close)
    services.health_source = HealthClient(client, bridge).report
    bridge.restore()
    if config.virtual_clock:
        services.scheduler.every(BRIDGE_PERIOD_VIRTUAL_MS, lambda: bridge.tick(services.clock.wall_ms()), "bridge")
    else:
        bridge.start(services.clock)
    return ending


def kernel_sources(root: Path = ROOT) -> list[Path]:
    """The files whose text decides what compiled code does, sorted.

    These are the files that compile functions, and the project's modules that those import: numba's own cache freezes
    their constants and callees, and does not notice an edit of either.
    """
    pending = [
        path
        for folder in SOURCE_FOLDERS
        for path in (root / folder).rglob("*.py")
        if path.name == "kernels.py" or b"njit" in path.read_bytes()
    ]
    found: set[Path] = set()
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending.extend(_project_imports(path, root))
    return sorted(found)


def _project_imports(path: Path, root: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in SOURCE_FOLDERS:
                module = root.joinpath(*name.split("."))
                yield from (file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file())


def prepare_kernel_cache(root: Path = ROOT) -> Path:
    """Point numba's cache at a folder of its own for exactly these kernels; call before numba is imported.

    The folder's name is a hash of the kernel sources, numba's version and the switches that change compiled code. It
    lies under $XDG_CACHE_HOME/fanbid, or ~/.cache/fanbid. A NUMBA_CACHE_DIR that is set already is left alone.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    digest = hashlib.blake2b(digest_size=10)
    for source in kernel_sources(root):
        digest.update(str(source.relative_to(root)).encode() + b"\0" + source.read_bytes() + b"\0")
    switches = [os.environ.get(name, "") for name in ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "NUMBA_OPT")]
    digest.update(repr((_version_of("numba"), sys.version_info[:2], switches)).encode())
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "fanbid" / f"kernels-{digest.hexdigest()}"
    _touch_cache(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return folder


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _touch_cache(folder: Path) -> None:
    """Make the folder and mark it used; remove those of other versions that nobody used for two weeks."""
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    oldest = time.time() - STALE_CACHE_S
    for other in folder.parent.glob("kernels-*"):
        if other != folder and other.stat().st_mtime < oldest:
            rmtree(other, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fanbid",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fanbid {_version_of('fanbid')}")
    _add_commands(parser, COMMANDS, "COMMAND")
    return parser


def _add_commands(parser: argparse.ArgumentParser, commands: dict[str, Command], metavar: str) -> None:
    group = parser.add_subparsers(title=f"{metavar.lower()}s", metavar=metavar, required=True)
    for name, command in commands.items():
        if command.summary is None:
            group.add_parser(name)
        else:
            group.add_parser(name, help=command.summary)


def _chosen(arguments: Sequence[str]) -> tuple[str, Command, Sequence[str]] | None:
    """The command that the arguments name, its full name, and the arguments that are its own."""
    if arguments and arguments[0] == "bench":
        if len(arguments) > 1 and arguments[1] in BENCHES:
            return f"fanbid bench {arguments[1]}", BENCHES[arguments[1]], arguments[2:]
        return None
    if arguments and arguments[0] in COMMANDS:
        return f"fanbid {arguments[0]}", COMMANDS[arguments[0]], arguments[1:]
    return None


def _explain(arguments: Sequence[str]) -> None:
    """Print help, or say what is wrong with the command's name, and exit."""
    parser = _parser()
    if arguments and arguments[0] == "bench":
        parser = argparse.ArgumentParser(prog="fanbid bench", description=COMMANDS["bench"].description)
        _add_commands(parser, BENCHES, "BENCHMARK")
        arguments = arguments[1:]
    parser.parse_args(arguments or ["--help"])


def _clear_ready_file(command: str, arguments: Sequence[str]) -> None:
    """Remove what a killed program left, before anything that takes time: who waits must not take it for this one's.

    Raises:
        ValueError: that file could not be written either.
    """
    if command not in READY_FILE_COMMANDS or not {"-h", "--help"}.isdisjoint(arguments):
        return
    from protos.rpc.ready_file import clear_ready_file

    variable = READY_FILE_COMMANDS[command]
    named = [(variable, os.environ[variable])] if variable and variable in os.environ else []
    for at, word in enumerate(arguments):
        flag, equals, text = word.partition("=")
        if flag == READY_FILE and (equals or at + 1 < len(arguments)):
            named.append((READY_FILE, text if equals else arguments[at + 1]))
    if named:
        source, text = named[-1]
        try:
            clear_ready_file(text)
        except ValueError as refused:
            raise ValueError(f"{source} {text!r}: {refused}") from None


def _stop_on_sigterm() -> None:
    """Let a polite kill unwind like Ctrl-C does, so that `finally` and context managers run."""

    def interrupt(signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the process's own) name.

    Returns:
        What the command answers; 2 when a flag, a variable or a file cannot be used; 130 when interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen = _chosen(arguments)
    if chosen is None:
        _explain(arguments)
        return EXIT_BAD_INPUT
    name, command, rest = chosen
    try:
        _clear_ready_file(arguments[0], rest)
        prepare_kernel_cache()
        _stop_on_sigterm()
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(prog=name, description=command.description, allow_abbrev=False)
        module.configure(parser)
        args = parser.parse_args(rest)
        return int(module.main(args, attach_bridge) if command is COMMANDS["serve"] else module.main(args))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in (*SOURCE_FOLDERS, "protos", "rpc"):
            raise
        print(f"{name}: the package {missing.name} is not installed; `python3 dev.py setup` does it", file=sys.stderr)
        return EXIT_BAD_INPUT
    except REFUSED as refused:
        if os.environ.get("FANBID_TRACEBACK"):
            raise
        print(f"{name}: {refused}", file=sys.stderr)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
