from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.kernel import check_agreement, make_workload, time_kernel, time_reference


@pytest.mark.kernels
def test_kernel_and_reference_agree_on_the_bench_workload() -> None:
    workload = make_workload(150, viewers=24, table_viewers=600)
    assert check_agreement(workload, 24) > 0


def test_both_are_timed() -> None:
    workload = make_workload(40, viewers=8, table_viewers=300)
    assert time_kernel(workload, 0.0) > 0
    assert time_reference(workload, 0.0) > 0


def test_disagreement_is_noticed() -> None:
    workload = make_workload(60, viewers=16, table_viewers=300)
    assert check_agreement(workload, 16) > 0
    dearer = [replace(c, alpha_micros=c.alpha_micros * 1.5) for c in workload.plain_campaigns]
    with pytest.raises(AssertionError, match="viewer"):
        check_agreement(replace(workload, plain_campaigns=dearer), 16)
