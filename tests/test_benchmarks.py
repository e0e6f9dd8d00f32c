"""The promises of docs/performance.md, measured anew. Slow: run with ``pytest -m slow -n 0``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = pytest.mark.slow


def output_of(script: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found.group(1))


def test_pixel_metrics_take_a_twentieth_of_the_time_and_a_fifth_of_the_memory() -> None:
    printed = output_of("pixel_metrics.py")
    assert number(r"wall s .* (\d+\.\d)x", printed) >= 20, printed
    assert number(r"extra MB .* (\d+\.\d)x", printed) >= 5, printed


def test_the_coreset_is_the_same_and_a_hundred_times_faster() -> None:
    printed = output_of("coreset.py")
    assert "2048 of 2048 chosen points are the same" in printed
    assert number(r"(\d+) times faster", printed) >= 100, printed


def test_two_thousand_images_are_prepared_in_little_memory_and_on_all_cores() -> None:
    printed = output_of("preparing.py")
    assert number(r"peak memory +(\d+) MB", printed) < 2000, printed
    assert number(r"prepare .* (\d+\.\d+)x faster", printed) >= 1.7, printed
    assert number(r"second run .* (\d+)x faster", printed) >= 8, printed


def test_a_grid_of_two_thousand_trainings_is_planned_in_five_seconds() -> None:
    printed = output_of("planning.py")
    planning = number(r"together +(\d+\.\d+) s", printed)
    assert planning < 5, printed
    assert number(r"check, nothing is there +(\d+\.\d+) s", printed) < 0.3 * planning, printed
    assert number(r"check, all is finished +(\d+\.\d+) s \(8570 of 8570", printed) < 5, printed


def test_dask_costs_a_few_milliseconds_per_step_and_a_second_worker_is_worth_it() -> None:
    printed = output_of("dask_overhead.py")
    assert number(r"two workers: .* (\d+\.\d) ms per step", printed) < 15, printed
    assert number(r"(\d+\.\d+) times as fast on cores of their own", printed) >= 1.6, printed
