# Settings of the scripts in this folder, which source this file.  Each can be set as an environment variable.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

: "${PYTHON:=python3}"          # Python with PyTorch and the packages of pyproject.toml
: "${DEVICE:=cuda}"             # cpu or cuda
: "${PRESET:=ghn2}"             # mlp, ghn1, ghn2, ghn3-t, ...
: "${IMAGES:=cifar10}"          # or digits, which needs no IMAGE_ROOT
: "${IMAGE_ROOT:=}"             # folder that contains cifar-10-batches-py
: "${DATA:=data}"               # folder of the corpus
: "${SIZE:=1000000}"            # number of training networks
: "${OUT:=runs}"                # folder of results
: "${NAME:=$PRESET-$IMAGES}"    # name of the hypernetwork
: "${PROCESSES:=1}"             # training processes, which share the device
: "${META_BATCH_SIZE:=8}"       # networks per step, of all processes together
: "${ARGS:=}"                   # further options of the command

corpus() {  # corpus SPLIT...: build the splits that are missing
  local split
  for split; do
    test -e "$DATA/deepnets1m_$split.h5" ||
      "$PYTHON" -m generator build --splits "$split" --train-size "$SIZE" --out "$DATA" --quiet
  done
}

launch() {  # launch PROCESSES COMMAND...: run a command of ghn_model in one process or several
  local count="$1"
  shift
  if test "$count" -gt 1; then
    share_gpu
    "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$count" -m ghn_model "$@"
  else
    "$PYTHON" -m ghn_model "$@"
  fi
}

share_gpu() {  # start NVIDIA's MPS daemon where it is installed, so that kernels of several processes run at the same time
  test "$DEVICE" != cpu && command -v nvidia-cuda-mps-control > /dev/null || return 0
  export CUDA_MPS_PIPE_DIRECTORY="${CUDA_MPS_PIPE_DIRECTORY:-/tmp/deepnets-mps}"
  export CUDA_MPS_LOG_DIRECTORY="${CUDA_MPS_LOG_DIRECTORY:-/tmp/deepnets-mps}"
  mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
  nvidia-cuda-mps-control -d 2> /dev/null || true  # it may be running already
}
