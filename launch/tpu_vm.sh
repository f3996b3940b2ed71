#!/usr/bin/env bash
# A run on a TPU slice of Google Cloud, of one machine or many. --help explains.
#
# The commands of gcloud: https://cloud.google.com/sdk/gcloud/reference/compute/tpus/queued-resources and
# https://cloud.google.com/sdk/gcloud/reference/compute/tpus/tpu-vm. TPU7x and later have no Cloud TPU API
# (https://docs.cloud.google.com/tpu/docs/jax-pods); for them there is jobset_tpu.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The label says that this script made a slice, so that it deletes no other.
label=creator=lfr-darts-tpu-vm
folder=lfr_darts_jax
name=lfr-darts zone=us-west4-a type=v5litepod-16 version=v2-alpha-tpuv5-lite
options=() spot=() dry_run=

usage() {
  cat <<USAGE
launch/tpu_vm.sh [--name=NAME] [--zone=ZONE] [--project=PROJECT] [--type=TYPE] [--version=VERSION] [--spot] [--dry-run]
                 STEP [ARGUMENTS OF THE RUN]

  create     asks for a slice, and waits until it is there (a queued resource); one that is there already is used,
             one that was preempted is deleted and asked for anew
  copy       the working tree, without what git ignores, to every machine of the slice
  install    it there, with its packages
  run        starts the run on every machine and follows its output, or only follows where it goes on already; ends with
             the run's exit status. Ctrl-C and a lost connection end the following alone
  stop       asks the run to save its state and end
  fetch      its work directory: from a gs:// address, or from the first machine
  delete     the slice, if this script created it
  all        create, copy, install, run, fetch, delete; where one fails, the slice stays

Arguments of the run are those of python -m lfr_darts_jax.main; fetch needs --workdir=DIR among them. A slice of several
machines needs a work directory at gs://.

--name=$name --zone=$zone --type=$type --version=$version unless they are given; --project as gcloud is
configured. --spot is cheaper and may be preempted. --dry-run prints the commands of gcloud instead of running them.
USAGE
}

fail() {
  echo "tpu_vm.sh: $1" >&2
  exit 2
}

# Standard output of a dry run is the commands, also of those whose output is read.
exec 3>&1
cloud() {
  if [[ $dry_run ]]; then
    printf 'gcloud' >&3
    printf ' %q' "$@" >&3
    echo >&3
  else
    gcloud "$@"
  fi
}

queued() { cloud compute tpus queued-resources "$1" "$name" "${options[@]}" "${@:2}"; }

# Its state and creator, nothing where there is no such slice.
look() { queued describe "--format=value(state.state,tpu.nodeSpec[0].node.labels.${label%=*})" 2>/dev/null || true; }

# The command reaches a shell over there, which takes it apart again.
on() { cloud compute tpus tpu-vm ssh "$name" "${options[@]}" "--worker=$1" "--command=$2"; }
worker() { printf 'cd %s && launch/tpu_worker.sh' "$folder" && printf ' %q' "$@"; }

create() {
  local state creator
  IFS=$'\t' read -r state creator <<<"$(look)"
  if [[ $state && $creator != "${label#*=}" ]]; then
    fail "name: there is a slice $name that this script did not create; --name=NAME gives another"
  fi
  case $state in
    FAILED | SUSPENDED)
      queued delete --force --quiet
      state=
      ;;
  esac
  if [[ ! $state ]]; then
    queued create "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$version" "--labels=$label" \
      ${spot[@]+"${spot[@]}"}
  fi
  while
    IFS=$'\t' read -r state creator <<<"$(look)"
    [[ $state != ACTIVE && ! $dry_run ]]
  do
    case $state in
      '' | FAILED | SUSPENDING | SUSPENDED | DELETING)
        echo "tpu_vm.sh: $name is ${state:-gone}; the same command asks for it anew" >&2
        exit 1
        ;;
    esac
    echo "$(date +%T) $name: $state" >&2
    sleep 30
  done
}

copy() {
  local archive
  archive=$(mktemp -d)
  # Files that were deleted and not committed are still listed.
  git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' file; do [[ -e $file || -L $file ]] && printf '%s\0' "$file"; done |
    tar --null --no-recursion -T - -czf "$archive/tree.tar.gz"
  cloud compute tpus tpu-vm scp "$archive/tree.tar.gz" "$name:$folder.tar.gz" "${options[@]}" --worker=all
  rm -r "$archive"
  on all "mkdir -p $folder && tar -xzf $folder.tar.gz -C $folder"
}

install() { on all "$(worker install)"; }

run() {
  on all "$(worker run "$@")"
  on 0 "$(worker follow)"
}

stop() { on all "$(worker stop)"; }

fetch() {
  local workdir=
  while (($#)); do
    case $1 in
      --workdir=* | -workdir=*) workdir=${1#*=} ;;
      --workdir | -workdir) workdir=${2:-} && shift ;;
    esac
    shift
  done
  case $workdir in
    '') fail "workdir: not given; fetch needs --workdir=DIR, as the run had it" ;;
    gs://*)
      mkdir -p "runs/$(basename "$workdir")"
      cloud storage rsync "$workdir" "runs/$(basename "$workdir")" --recursive
      ;;
    /*)
      mkdir -p runs
      cloud compute tpus tpu-vm scp "$name:$workdir" runs/ "${options[@]}" --worker=0 --recurse
      ;;
    *)
      mkdir -p "$(dirname "$workdir")"
      cloud compute tpus tpu-vm scp "$name:$folder/$workdir" "$(dirname "$workdir")/" "${options[@]}" --worker=0 --recurse
      ;;
  esac
}

delete() {
  local state creator
  IFS=$'\t' read -r state creator <<<"$(look)"
  if [[ ! $dry_run ]]; then
    [[ $state ]] || fail "name: there is no slice $name in $zone"
    [[ $creator == "${label#*=}" ]] || fail "name: this script did not create $name, so it does not delete it"
  fi
  queued delete --force --quiet
}

all() {
  create
  trap '[[ $? == 0 ]] || echo "tpu_vm.sh: $name is still there and is paid for; the step delete ends that" >&2' EXIT
  copy
  install
  run "$@"
  fetch "$@"
  delete
}

while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) options+=("$1") ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot) spot=(--spot) ;;
    --dry-run) dry_run=yes ;;
    --help | -h) usage && exit ;;
    create | copy | install | run | stop | fetch | delete | all) break ;;
    *) fail "$1: no option and no step; --help tells those" ;;
  esac
  shift
done
(($#)) || fail "step: not given; --help tells them"
options=("--zone=$zone" ${options[@]+"${options[@]}"})
"$@"
