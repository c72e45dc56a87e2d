"""The table of precisions: ratios and differences to float32 of the same device, and what was not measured."""

from __future__ import annotations

from kimgnn.evaluation.precision import PrecisionRow, as_json, not_measured, precision_table

ROWS = [
    PrecisionRow("float32", "cpu", "", 0.2, 1000.0, {"gap_mae": 0.5, "gap_count": 10}),
    PrecisionRow("bf16", "cpu", "", 0.1, 600.0, {"gap_mae": 0.75, "gap_count": 10}),
    PrecisionRow("fp16", "cuda", "no CUDA device"),
]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_compares_with_float32() -> None:
    header, _, single, half, absent = map(cells, precision_table(ROWS).splitlines())
    assert header == ["precision", "device", "ms a step", "times as fast", "MiB", "memory saved", "gap_mae"]
    assert single == ["float32", "cpu", "200.0", "", "1,000", "", "0.5"]
    assert half == ["bf16", "cpu", "100.0", "2.00", "600", "40%", "0.75 (+0.25)"]
    assert absent == ["fp16", "cuda", *["–"] * 5]


def test_rows_of_another_device_are_not_compared() -> None:
    lines = precision_table([ROWS[0], PrecisionRow("bf16", "cuda", "", 0.1, 600.0, {"gap_mae": 0.75})]).splitlines()
    assert cells(lines[3]) == ["bf16", "cuda", "100.0", "", "600", "", "0.75"]


def test_reasons_and_json() -> None:
    assert not_measured(ROWS) == ["- fp16 on cuda: not measured: no CUDA device"]
    assert as_json(ROWS)[1:] == [
        {"precision": "bf16", "device": "cpu", "seconds_per_step": 0.1, "peak_mib": 600.0, "metrics": ROWS[1].metrics},
        {"precision": "fp16", "device": "cuda", "not_measured": "no CUDA device"},
    ]
