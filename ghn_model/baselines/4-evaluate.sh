#!/usr/bin/env bash
# Step 4: bundle a trained hypernetwork with the package: its weights in half precision, the results on every split, a
# card, and the log of the training.
#
#   IMAGE_ROOT=folder ghn_model/baselines/4-evaluate.sh
#
# Reads OUT/NAME; writes OUT/NAME/results with the report, and BUNDLE/NAME.safetensors, .json and .log.csv.  The same
# command resumes an evaluation that was stopped.

source "$(dirname "$0")/settings.sh"
: "${SPLITS:=test wide deep dense bnfree predefined}"
: "${LIMIT:=0}"                 # networks of each split; 0 for all
: "${WORKERS:=4}"               # networks evaluated at the same time; they share the device
: "${BUNDLE:=ghn_model/pretrained}"
: "${OVERWRITE:=}"              # 1 to replace the hypernetwork of another training

corpus test wide deep dense bnfree
"$PYTHON" -m benchmark card "$OUT/$NAME" --name "$NAME" --out "$BUNDLE" ${OVERWRITE:+--overwrite}
"$PYTHON" -m benchmark run --predictors "$NAME=$BUNDLE/$NAME.safetensors" --splits $SPLITS --limit "$LIMIT" \
  --images "$IMAGES" ${IMAGE_ROOT:+--image-root "$IMAGE_ROOT"} --data "$DATA" --device "$DEVICE" --workers "$WORKERS" \
  --out "$OUT/$NAME/results"
"$PYTHON" -m benchmark card "$OUT/$NAME" --name "$NAME" --out "$BUNDLE" --results "$OUT/$NAME/results" $ARGS
