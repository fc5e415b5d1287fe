# What the scripts of this folder have in common; each of these can be set from outside.  Read by them, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

: "${PYTHON:=python3}"          # one that has PyTorch and the packages of pyproject.toml
: "${DEVICE:=cuda}"             # cpu to try a script
: "${PRESET:=ghn2}"             # mlp, ghn1, ghn2, ghn3-t, ...
: "${IMAGES:=cifar10}"          # or digits, which needs no folder
: "${IMAGE_ROOT:=}"             # folder of cifar-10-batches-py
: "${DATA:=data}"               # folder of the corpus
: "${SIZE:=1000000}"            # networks in its training split
: "${OUT:=runs}"                # where results go
: "${NAME:=$PRESET-$IMAGES}"    # of the hypernetwork
: "${PROCESSES:=1}"             # that train; they share the device
: "${META_BATCH:=8}"            # networks in a step, of all of them together
: "${ARGS:=}"                   # more options for the command

corpus() {  # corpus SPLIT...: make what is missing
  local split
  for split; do
    test -e "$DATA/deepnets1m_$split.h5" ||
      "$PYTHON" -m generator build --splits "$split" --train-size "$SIZE" --out "$DATA" --quiet
  done
}

launch() {  # launch PROCESSES COMMAND...: one process of ghn_model, or several
  local count="$1"
  shift
  if test "$count" -gt 1; then
    "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$count" -m ghn_model "$@"
  else
    "$PYTHON" -m ghn_model "$@"
  fi
}
