#!/usr/bin/env bash
# Step 3: start or resume a training for some minutes, then evaluate it on validation networks and images.
#
#   IMAGE_ROOT=folder MINUTES=60 CALL=8 ghn_model/baselines/3-train.sh
#
# MINUTES is the length of the whole training, CALL that of this call.  Repeat the call until the output no longer says
# how to resume.  The next call needs only the folder OUT/NAME, on any machine.

source "$(dirname "$0")/settings.sh"
: "${MINUTES:=}"                # length of the training in minutes, or
: "${STEPS:=}"                  # in steps; by default the published number of epochs
: "${CALL:=8}"                  # minutes of this call
: "${VALIDATION:=20}"           # networks of the split val; 0 for no validation

corpus train val
launch "$PROCESSES" train --preset "$PRESET" --images "$IMAGES" ${IMAGE_ROOT:+--image-root "$IMAGE_ROOT"} \
  --data "$DATA" --out "$OUT/$NAME" --device "$DEVICE" --meta-batch-size "$META_BATCH_SIZE" --stop-after "$CALL" \
  ${MINUTES:+--minutes "$MINUTES"} ${STEPS:+--steps "$STEPS"} --log-steps 100 --save-minutes 2 $ARGS
if test "$VALIDATION" -gt 0; then
  "$PYTHON" -m benchmark run --predictors "$NAME=$OUT/$NAME/ghn.safetensors" --splits val --limit "$VALIDATION" \
    --images "$IMAGES" ${IMAGE_ROOT:+--image-root "$IMAGE_ROOT"} --data "$DATA" --device "$DEVICE" \
    --out "$OUT/$NAME/validation"
fi
