#!/usr/bin/env bash
# A run, fit and verdict, on one machine of Hugging Face Jobs. Its disk is not shared and is gone afterwards, so the run is in a bucket; a
# second attempt goes on where the first was ended. Start it in a checkout of this package that holds your recipe and demonstrations: all of
# that folder is copied into your private bucket `jobs-artifacts`, so keep environments, earlier runs and other data out of it.
#
# Run:  bash recipes/launch/hf-jobs.sh recipe.yaml OWNER/BUCKET/mine
#
# Before: hf auth login; hf buckets create OWNER/BUCKET. SFT_FLAVOR names the machine (hf jobs hardware), SFT_TIMEOUT the longest time,
# SFT_MOST how many MB the folder may have (200); further words go to `hf jobs run`: --dry-run shows what would be sent.
set -u
refuse() { echo "hf-jobs.sh: $*" >&2; exit 2; }
if [ $# -lt 2 ] || [[ ! "$2" =~ ^[^/:[:space:]]+/[^/:[:space:]]+/[^/:[:space:]]+$ ]]; then
  refuse "name the recipe and the run's place in a bucket: bash hf-jobs.sh recipe.yaml OWNER/BUCKET/mine"
fi
recipe=$1 place=$2
shift 2
case $recipe in /* | .. | ../* | */../*) refuse "$recipe is not in this folder, and the job sees this folder alone; copy it here" ;; esac
[ -f "$recipe" ] || refuse "no recipe $recipe here; the job sees this folder alone"
grep -qs '^name = "behavioral-cloning"' pyproject.toml ||
  refuse "this folder is no checkout of the package, which the job installs from it; start it in one"
case $PWD in *:*) refuse "the folder's path has a colon, which hf takes for an end; move it: $PWD" ;; esac
command -v hf > /dev/null || refuse "no hf on the PATH: pip install huggingface_hub"
most=${SFT_MOST:-200} size=$(($(du -sk . | cut -f 1) / 1024))
[ "$size" -le "$most" ] ||
  refuse "this folder has $size MB, and all of it would be sent; move environments and runs out of it, or say SFT_MOST=$size"

exec hf jobs run --flavor "${SFT_FLAVOR:-a10g-large}" --timeout "${SFT_TIMEOUT:-6h}" --attempts 3 --secrets HF_TOKEN \
  --volume "$PWD:/source" --volume "hf://buckets/${place%/*}:/runs:rw" \
  --env "RECIPE=$recipe" --env "RUN=/runs/${place##*/}" "$@" \
  pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime bash -c '
    pip install --quiet /source && cd /source || exit
    if [ -e "$RUN" ]; then set -- --resume; fi
    exec sft run "$RECIPE" --output "$RUN" "$@"'
