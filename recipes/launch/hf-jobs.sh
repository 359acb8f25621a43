#!/usr/bin/env bash
# A run, fit and verdict, on one machine of Hugging Face Jobs. Its disk is not shared and is gone afterwards, so the run is in a bucket; a
# second attempt goes on where the first was ended. Start it in a checkout of this package that holds your recipe and demonstrations.
#
# Run:  bash recipes/launch/hf-jobs.sh recipe.yaml OWNER/BUCKET/mine
#
# Before: hf auth login; hf buckets create OWNER/BUCKET. SFT_FLAVOR names the machine (hf jobs hardware), SFT_TIMEOUT the longest time;
# further words go to `hf jobs run`: --dry-run shows what would be sent.
set -u
if [ $# -lt 2 ] || [[ "$2" != */*/* ]]; then
  echo "hf-jobs.sh: name the recipe and the run's place in a bucket: bash hf-jobs.sh recipe.yaml OWNER/BUCKET/mine" >&2
  exit 2
fi
recipe=$1 place=$2
shift 2
if [ ! -f "$recipe" ]; then
  echo "hf-jobs.sh: no recipe $recipe here; the job sees this folder alone" >&2
  exit 2
fi
exec hf jobs run --flavor "${SFT_FLAVOR:-a10g-large}" --timeout "${SFT_TIMEOUT:-6h}" --attempts 3 --secrets HF_TOKEN \
  --volume "$PWD:/source" --volume "hf://buckets/${place%/*}:/runs" \
  --env "RECIPE=$recipe" --env "RUN=/runs/${place##*/}" "$@" \
  pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime bash -c '
    pip install --quiet /source && cd /source || exit
    if [ -e "$RUN" ]; then set -- --resume; fi
    exec sft run "$RECIPE" --output "$RUN" "$@"'
