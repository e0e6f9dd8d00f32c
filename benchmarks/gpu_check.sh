#!/usr/bin/env bash
# Every detector on this machine's GPU, and a small grid on a worker with a GPU: under five minutes, nothing installed.
# Arguments are those of gpu_check.py; without a GPU: benchmarks/gpu_check.sh --device cpu --env test --size 64
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" KEDRO_DISABLE_TELEMETRY=1 TQDM_DISABLE=1
exec "${PYTHON:-python3}" -W ignore benchmarks/gpu_check.py "$@"
