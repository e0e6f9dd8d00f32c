"""The check for machines with a GPU, on the CPU at a tiny size, so that it works when there is one."""

from __future__ import annotations

import subprocess

from tests.conftest import PROJECT, parameters_of


def check(*arguments: str) -> tuple[int, str]:
    command = ["benchmarks/gpu_check.sh", "--device", "cpu", "--env", "test", "--size", "64", "--no-grid", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_detector_is_checked() -> None:
    code, printed = check("--images", "5", "--precisions", "fp32", "--batches", "1")
    assert code == 0 and "all passed" in printed, printed
    table = printed[printed.index("CPU differs by") :]
    for name in parameters_of("test")["detectors"]:
        (line,) = [line.split() for line in table.splitlines() if line.split()[:1] == [name]]
        assert float(line[-1]) == 0, "the same device"


def test_a_detector_that_fails_is_named_and_hides_no_other() -> None:
    code, printed = check("--images", "0", "--precisions", "fp32", "--detectors", "padim", "patchcore")
    assert code == 1
    assert "FAILED padim, fp32: " in printed and "FAILED patchcore, fp32: " in printed
