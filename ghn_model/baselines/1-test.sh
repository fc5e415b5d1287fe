#!/usr/bin/env bash
# Step 1: what machine this is, and whether everything that is tested is right on it.
#
#   ghn_model/baselines/1-test.sh                  all tests
#   ghn_model/baselines/1-test.sh -k devices       some of them; options of pytest
#
# Writes OUT/test.log.  The tests use the GPU where they can; clusters and other packages that are missing are skipped.

source "$(dirname "$0")/settings.sh"
mkdir -p "$OUT"
{
  "$PYTHON" - <<'EOF'
import os, platform
import numpy, torch
print(f"Python {platform.python_version()}, NumPy {numpy.__version__}, PyTorch {torch.__version__}, {os.cpu_count()} cores")
for number in range(torch.cuda.device_count()):
    about = torch.cuda.get_device_properties(number)
    print(f"GPU {number}: {about.name}, {about.total_memory / 2**30:.0f} GiB, {about.multi_processor_count} multiprocessors")
EOF
  "$PYTHON" -m pytest -n auto -p no:cacheprovider "$@"
} 2>&1 | tee "$OUT/test.log"
