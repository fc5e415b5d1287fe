#!/usr/bin/env bash
# Step 2: profile a training step of the published recipe, with several numbers of processes on one GPU.
#
#   IMAGE_ROOT=folder ghn_model/baselines/2-profile.sh
#   RANKS="1 4" ARGS="--precision bf16" ghn_model/baselines/2-profile.sh
#
# Writes OUT/profile/RANKS/profile.json and trace.json.gz for each number of processes, and OUT/profile/profile.log.

source "$(dirname "$0")/settings.sh"
: "${RANKS:=1 2 4 8}"           # numbers of processes
: "${STEPS:=40}"                # steps to time
: "${BATCH_SIZE:=64}"           # images per step

corpus train
mkdir -p "$OUT/profile"
for count in $RANKS; do
  launch "$count" profile --preset "$PRESET" --images "$IMAGES" ${IMAGE_ROOT:+--image-root "$IMAGE_ROOT"} \
    --data "$DATA" --device "$DEVICE" --meta-batch-size "$META_BATCH_SIZE" --batch-size "$BATCH_SIZE" \
    --steps "$STEPS" --out "$OUT/profile/$count" $ARGS
done 2>&1 | tee "$OUT/profile/profile.log"
