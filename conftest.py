"""Every pytest run, of tests or benchmarks: kernels are cached where all programs cache them."""

from __future__ import annotations

from fanbid import prepare_kernel_cache

prepare_kernel_cache()  # before any module imports numba
