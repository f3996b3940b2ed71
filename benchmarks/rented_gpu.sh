#!/usr/bin/env bash
# What is worth measuring on a rented GPU, in two calls that fit into a quarter of an hour.
#
#   bash benchmarks/rented_gpu.sh pack DIR   at home: packages, and CIFAR-10 out of TFDS's directory DIR, into rented/
#   bash benchmarks/rented_gpu.sh first      there, six minutes: seconds per update, then a whole search
#   bash benchmarks/rented_gpu.sh second     there, seven minutes: the training of the genotype that was found
#   bash benchmarks/rented_gpu.sh try        at home: both at toy size on the CPU, among the packages of there
#
# The machine has this tree with rented/, Python 3.12 with the packages of `there` below, and no network. Results go to
# OUT (rented/out). Where the second call has another machine, OUT/search.tgz of the first goes into rented/ before it.
# `try` keeps all of its own in build/, and makes an environment in VENV (build/rented_venv) unless it is there.
# UPDATES_SECONDS, FIRST_SECONDS and SECOND_SECONDS say when the updates and the calls end, PYTHON which Python runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

there=(absl-py chex etils filelock flax fsspec jax==0.11.2 jinja2 matplotlib opencv-python-headless optax
  orbax-checkpoint pillow protobuf psutil pyyaml requests scikit-learn torch==2.11.0 tqdm wrapt)
carried=(array-record contextlib2 dm-tree docstring-parser googleapis-common-protos igraph immutabledict
  importlib-resources ml-collections msgspec platformdirs promise simple-parsing six
  tensorflow-datasets tensorflow-metadata termcolor texttable toml)
# Kernels in loops and convolutions are launched together too.
graphs=--xla_gpu_enable_command_buffer=+WHILE,+CONVOLUTION

python=${PYTHON:-python3}
work=rented
began=$(date +%s)
updates=(--steps=20 --dtype=bfloat16)
lfr_darts=(--layers=5 --batch=256)
darts=(--layers=8 --batch=64)
search=() training=() epochs=(20 80)
if [ "${TOY:-}" ]; then
  work=build/rented_toy
  updates=(--steps=2 --dtype=bfloat16 --channels=2 --nodes=1)
  lfr_darts=(--layers=5 --batch=4)
  darts=(--layers=3 --batch=4)
  search=(--config.search.epochs=1 --config.search.channels=4 --config.search.nodes=2 --config.data.search_fraction=0.03)
  training=(--config.network.channels=4 --config.network.layers=5)
  epochs=(1 2)
fi

out=${OUT:-$work/out}

left() { echo $((began + $1 - $(date +%s))); }

pack() {
  local made
  made=$(mktemp -d)
  mkdir -p rented/data
  cp -r "$1/cifar10" rented/data/
  "$python" -m pip wheel -q --no-deps -w "$made/wheels" "${carried[@]}"
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$made/packages" "$made"/wheels/*.whl
  # TFDS's names and checksums of data sets that are still to be prepared.
  tar -C "$made/packages" --exclude=url_checksums --exclude='*.txt' -cJf rented/packages.tar.xz .
  rm -r "$made"
  du -sh rented
}

unpack() {
  local packages
  packages=$(mktemp -d)
  mkdir -p "$out"
  tar -C "$packages" -xJf rented/packages.tar.xz
  export PYTHONPATH=$PWD:$packages XLA_PYTHON_CLIENT_PREALLOCATE=false
}

time_updates() {
  time_plan lfr_darts "${lfr_darts[@]}"
  time_plan darts "${darts[@]}"
  wait
  cat "$out"/updates-*.json
}

# Ours, ours with graphs, and PyTorch's: compiled beside each other, timed in turn.
time_plan() {
  time_one "$1" "" "${@:2}" --plan="$1" --framework=jax
  time_one "$1-graphs" "$graphs" "${@:2}" --plan="$1" --framework=jax
  time_one "$1-torch" "" "${@:2}" --plan="$1" --framework=torch
}

time_one() {
  XLA_FLAGS=$2 timeout "$(left "${UPDATES_SECONDS:-100}")" "$python" benchmarks/search_step.py "${updates[@]}" \
    --cold --turn="$out/turn" --json "${@:3}" >"$out/updates-$1.json" 2>"$out/updates-$1.log" &
}

faster_flags() {
  "$python" - "$out/updates-lfr_darts.json" "$out/updates-lfr_darts-graphs.json" "$graphs" <<'PYTHON'
import json, pathlib, sys
plain, graphs = (json.loads(pathlib.Path(p).read_text() or "{}").get("seconds_per_step", 1e9) for p in sys.argv[1:3])
print(sys.argv[3] if graphs < plain else "")
PYTHON
}

job() {
  timeout --signal=TERM "$1" "$python" -m lfr_darts_jax.main --config=configs/cifar10.py:quarter_hour \
    --config.data.dir=rented/data "${@:2}"
}

first() {
  local status=0
  unpack
  time_updates
  XLA_FLAGS=$(faster_flags)
  export XLA_FLAGS
  echo "search | XLA_FLAGS=$XLA_FLAGS"
  job "$(left "${FIRST_SECONDS:-360}")" --mode=search --workdir="$work/search" "${search[@]}" || status=$?
  echo "$XLA_FLAGS" >"$work/search/xla_flags"
  # Without checkpoints, whose names are numbers.
  tar -C "$work/search" --exclude='./search/[0-9]*' -czf "$out/search.tgz" .
  echo "search | status $status | $(($(date +%s) - began)) s"
  return $status
}

# As many epochs as fit, known before the first step: seconds per step are measured, and half a minute is for the rest,
# which is reading the data, the test and the page. The program is compiled twice, since its length is part of it.
second() {
  local status=0 seconds number flags=(--genotype="$work/search/genotype.json" "${training[@]}")
  unpack
  if [ -e "$work/search.tgz" ]; then
    mkdir -p "$work/search"
    tar -C "$work/search" -xzf "$work/search.tgz"
  fi
  XLA_FLAGS=$(cat "$work/search/xla_flags")
  export XLA_FLAGS
  job 200 --mode=estimate --device=here "${flags[@]}" --config.train.epochs=80 | tail -1 >"$out/training-step.json"
  seconds=$(left "${SECOND_SECONDS:-420}")
  number=$("$python" - "$out/training-step.json" "$((seconds - 30))" "${epochs[@]}" <<'PYTHON'
import json, pathlib, sys
(program,) = json.loads(pathlib.Path(sys.argv[1]).read_text())["programs"]
seconds, least, most = map(int, sys.argv[2:])
epoch = program["plausible_seconds_per_step"] * program["steps"] / 80
print(min(most, max(least, int((seconds - program["compile_seconds"]) / epoch))))
PYTHON
)
  echo "training | $number epochs in $seconds s"
  job "$seconds" --mode=train --workdir="$work/training" "${flags[@]}" --config.train.epochs="$number" || status=$?
  tar -C "$work/training" --exclude='./checkpoints' -czf "$out/training.tgz" .
  echo "training | status $status | $(($(date +%s) - began)) s"
  return $status
}

try() {
  local venv=${VENV:-build/rented_venv}
  if [ ! -e "$venv" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install -q "${there[@]}"
  fi
  rm -rf build/rented_toy
  # Six programs are compiled at once; two cores take longer than the sixteen of such a machine.
  PYTHON=$(cd "$venv" && pwd)/bin/python
  export PYTHON TOY=1 JAX_PLATFORMS=cpu UPDATES_SECONDS=600 FIRST_SECONDS=1200 SECOND_SECONDS=600
  bash benchmarks/rented_gpu.sh first
  bash benchmarks/rented_gpu.sh second
}

case ${1:-} in
  pack | first | second | try) "$@" ;;
  *)
    echo "rented_gpu.sh: ${1:-nothing}; allowed are pack DIR, first, second, try" >&2
    exit 2
    ;;
esac
