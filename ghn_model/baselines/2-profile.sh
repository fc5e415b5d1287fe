#!/usr/bin/env bash
# Step 2: where the time of a training step goes at the published setting, and how many networks a second several
# processes on one GPU train on.
#
#   IMAGE_ROOT=folder ghn_model/baselines/2-profile.sh
#   RANKS="1 4" ARGS="--precision bf16" ghn_model/baselines/2-profile.sh
#
# Writes OUT/profile/RANKS/profile.json and trace.json.gz for each number of processes, and OUT/profile/profile.log.

source "$(dirname "$0")/settings.sh"
: "${RANKS:=1 2 4 8}"
: "${STEPS:=40}"
: "${BATCH:=64}"

corpus train
mkdir -p "$OUT/profile"
for count in $RANKS; do
  launch "$count" profile --preset "$PRESET" --images "$IMAGES" ${IMAGE_ROOT:+--image-folder "$IMAGE_ROOT"} \
    --data "$DATA" --device "$DEVICE" --meta-batch "$META_BATCH" --batch "$BATCH" --steps "$STEPS" \
    --out "$OUT/profile/$count" $ARGS
done 2>&1 | tee "$OUT/profile/profile.log"
