#!/usr/bin/env bash
# Step 4: make a trained hypernetwork one that comes with the package: its file in half precision, evaluated on every
# split, with a card and the log of its training.
#
#   IMAGE_ROOT=folder ghn_model/baselines/4-evaluate.sh
#
# Reads OUT/NAME, writes OUT/NAME/results with the report, and BUNDLE/NAME.safetensors, .json and .log.csv.  When it was
# stopped, the same command goes on.

source "$(dirname "$0")/settings.sh"
: "${SPLITS:=test wide deep dense bnfree predefined}"
: "${LIMIT:=0}"                 # networks of each split; 0 for all
: "${JOBS:=4}"                  # networks at a time; they share the device
: "${BUNDLE:=ghn_model/pretrained}"
: "${OVERWRITE:=}"              # 1 to replace the hypernetwork of another training

corpus test wide deep dense bnfree
"$PYTHON" -m benchmark card "$OUT/$NAME" --name "$NAME" --out "$BUNDLE" ${OVERWRITE:+--overwrite}
"$PYTHON" -m benchmark run --predictors "$NAME=$BUNDLE/$NAME.safetensors" --splits $SPLITS --limit "$LIMIT" \
  --images "$IMAGES" ${IMAGE_ROOT:+--image-root "$IMAGE_ROOT"} --data "$DATA" --device "$DEVICE" --jobs "$JOBS" \
  --out "$OUT/$NAME/results"
"$PYTHON" -m benchmark card "$OUT/$NAME" --name "$NAME" --out "$BUNDLE" --results "$OUT/$NAME/results" $ARGS
