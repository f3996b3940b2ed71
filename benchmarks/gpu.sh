#!/usr/bin/env bash
# The measurements for a GPU, in calls of under ten minutes each; results go to files of one line of JSON per framework.
#
#   bash benchmarks/gpu.sh                 lists the calls and which are done
#   bash benchmarks/gpu.sh next            makes the next one that is not done
#   bash benchmarks/gpu.sh CALL [FLAG...]  makes that one; flags go to the benchmark, the last of a kind counts
#
# RESULTS (gpu-results) is where they go, DATA_DIR the TFDS directory of CIFAR-10 for the search, which several calls
# continue. Install `-e '.[cuda,torch]'` first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
results=${RESULTS:-gpu-results}
limit=570

calls() {
  echo machine
  for batch in 64 256; do
    for dtype in float32 bfloat16; do
      for order in 1 2; do echo "step-$batch-$dtype-$order"; done
    done
  done
  for method in shifts conv; do echo "depthwise-$method"; done
  for edges in unroll scan; do echo "edges-$edges"; done
  echo layered-64-bfloat16-1
  echo search
}

is_done() { test -s "$results/$1.jsonl"; }

# Written under another name first, so that a call that was cut off is not taken for a finished one.
keep() {
  local call=$1
  shift
  timeout "$limit" "$@" >"$results/.$call.partial"
  mv "$results/.$call.partial" "$results/$call.jsonl"
  cat "$results/$call.jsonl"
}

step() { keep "$1" python benchmarks/search_step.py --channels=16 --layers=8 --steps=20 --json "${@:2}"; }

search() {
  local status=0
  timeout --signal=TERM "$limit" python -m lfr_darts_jax.main --mode=search --config=configs/cifar10.py \
    ${DATA_DIR:+--config.data.dir="$DATA_DIR"} --workdir="$results/search" "$@" || status=$?
  case $status in
    0) cp "$results/search/search/summary.json" "$results/search.jsonl" ;;
    124 | 143) echo "not done yet: the same call continues" ;;
    *) exit "$status" ;;
  esac
}

make() {
  local call=$1 batch dtype order
  shift
  mkdir -p "$results"
  case $call in
    machine) keep "$call" python benchmarks/machine.py --json "$@" ;;
    step-* | layered-*)
      IFS=- read -r plan batch dtype order <<<"$call"
      plan=$([ "$plan" = step ] && echo darts || echo lfr_darts)
      step "$call" --plan="$plan" --batch="$batch" --dtype="$dtype" --order="$order" "$@"
      ;;
    depthwise-* | edges-*)
      step "$call" --framework=jax --batch=64 --dtype=bfloat16 --set "network.${call%-*}=${call#*-}" "$@"
      ;;
    search) search "$@" ;;
  esac
}

if [ $# -eq 0 ]; then
  for call in $(calls); do
    if is_done "$call"; then echo "$call (done)"; else echo "$call"; fi
  done
elif [ "$1" = next ]; then
  for call in $(calls); do
    if ! is_done "$call"; then
      echo "== $call"
      make "$call" "${@:2}"
      exit
    fi
  done
  echo "all done: $results"
elif calls | grep -qx -- "$1"; then
  make "$@"
else
  echo "gpu.sh: $1; allowed are next, $(calls | paste -sd, | sed 's/,/, /g')" >&2
  exit 2
fi
