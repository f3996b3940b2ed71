#!/usr/bin/env bash
# The part of tpu_vm.sh that runs on each machine of a slice: tpu_worker.sh install | run ARGUMENTS | follow | stop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Of the program, not of the shell that waits for it.
running() { [[ -e run.pid ]] && kill -0 "$(cat run.pid)" 2>/dev/null; }

case $1 in
  install)
    # Python there is 3.10 on Ubuntu 22.04, so uv fetches one. On 24.04 pip must be told that it may install for a user.
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --allow-existing --python '>=3.11' .venv
    python3 -m uv pip install --quiet --python .venv -e '.[tpu]'
    ;;
  run)
    if running; then
      echo "$(hostname): the run goes on already"
      exit
    fi
    rm -f run.pid run.status
    # A session of its own outlives the connection.
    # shellcheck disable=SC2016
    setsid bash -c '"$@" & echo $! > run.pid; status=0; wait $! || status=$?; echo $status > run.status' run \
      .venv/bin/python -m lfr_darts_jax.main --distributed "${@:2}" </dev/null >run.log 2>&1 &
    until [[ -e run.pid ]]; do sleep 0.1; done
    ;;
  follow)
    [[ -e run.pid ]] || { echo "$(hostname): no run was started" >&2 && exit 2; }
    tail --pid="$(cat run.pid)" --lines=+1 --follow run.log
    until [[ -e run.status ]]; do sleep 0.1; done
    exit "$(cat run.status)"
    ;;
  stop)
    if running; then kill -TERM "$(cat run.pid)"; fi
    ;;
esac
