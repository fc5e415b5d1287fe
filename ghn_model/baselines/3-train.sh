#!/usr/bin/env bash
# Step 3: train, or go on with it, for a while; then look how good it is on validation images and networks.
#
#   IMAGE_ROOT=folder MINUTES=60 CALL=8 ghn_model/baselines/3-train.sh
#
# MINUTES is the length of the whole training, by which the learning rate falls; CALL that of this call.  Call again
# until it says no more that the same command goes on.  What is in OUT/NAME is all that the next call needs, on any
# machine: state.safetensors, ghn.safetensors, log.csv.

source "$(dirname "$0")/settings.sh"
: "${MINUTES:=}"                # of the training, or
: "${STEPS:=}"                  # its steps; by default the published epochs
: "${CALL:=8}"                  # minutes of this call
: "${VALIDATION:=20}"           # networks of the split val; 0 for none

corpus train val
launch "$PROCESSES" train --preset "$PRESET" --images "$IMAGES" ${IMAGE_ROOT:+--image-folder "$IMAGE_ROOT"} \
  --data "$DATA" --out "$OUT/$NAME" --device "$DEVICE" --meta-batch "$META_BATCH" --stop-after "$CALL" \
  ${MINUTES:+--minutes "$MINUTES"} ${STEPS:+--steps "$STEPS"} --log-steps 100 --save-minutes 2 $ARGS
if test "$VALIDATION" -gt 0; then
  "$PYTHON" -m benchmark run --predictors "$NAME=$OUT/$NAME/ghn.safetensors" --splits val --limit "$VALIDATION" \
    --images "$IMAGES" ${IMAGE_ROOT:+--image-root "$IMAGE_ROOT"} --data "$DATA" --device "$DEVICE" \
    --out "$OUT/$NAME/validation"
fi
