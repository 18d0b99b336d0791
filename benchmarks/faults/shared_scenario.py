"""What one seed means beyond that where several servers share the budgets of one store: who is cut off, and when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failover:
    """A master is lost; another one takes over after a while, without what was written last."""

    at_ms: int
    master: int
    down_ms: int
    lost_ms: int
    clock_error_ms: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A server does not reach the store; of its calls this share is done all the same."""

    start_ms: int
    end_ms: int
    server: int
    done_rate: float


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall clock of a server is set to err by so much."""

    at_ms: int
    server: int
    error_ms: int


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """Several servers on one store.

    Attributes:
        masters: of the store, which split the creators between them.
        clock_errors_ms: of each server's wall clock, at first.
        clock_steps: they replace those of the scenario.
        elsewhere_rate: of rows that reach another server than the one that bid.
        lost_call_rate: of calls to the store that get lost outside of partitions, or whose answer does.
        quarantine_ms: nothing is granted for so long after a failover.
        caps_delay_ms: how long, at most, until all servers know new caps.
        watch_ms: how often a server looks for a new master.
    """

    servers: int
    masters: int
    clock_errors_ms: tuple[int, ...]
    clock_steps: tuple[ClockStep, ...]
    elsewhere_rate: float
    lost_call_rate: float
    quarantine_ms: int
    caps_delay_ms: int
    watch_ms: int
    partitions: tuple[Partition, ...]
    failovers: tuple[Failover, ...]
