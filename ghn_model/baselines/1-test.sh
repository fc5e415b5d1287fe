#!/usr/bin/env bash
# Step 1: describe the machine and run the tests.
#
#   ghn_model/baselines/1-test.sh                  all tests
#   ghn_model/baselines/1-test.sh -k devices       some of them; the options are those of pytest
#
# Writes OUT/test.log.  Tests use a GPU if there is one; tests of packages that are not installed are skipped.

source "$(dirname "$0")/settings.sh"
mkdir -p "$OUT"
{
  "$PYTHON" - <<'PROGRAM'
import os, platform
import numpy, torch
print(f"Python {platform.python_version()}, NumPy {numpy.__version__}, PyTorch {torch.__version__}, {os.cpu_count()} cores")
for number in range(torch.cuda.device_count()):
    gpu = torch.cuda.get_device_properties(number)
    print(f"GPU {number}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {gpu.multi_processor_count} multiprocessors")
PROGRAM
  "$PYTHON" -m pytest -n auto -p no:cacheprovider "$@"
} 2>&1 | tee "$OUT/test.log"
