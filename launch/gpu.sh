#!/usr/bin/env bash
# A run on all GPUs of this machine, or on those that CUDA_VISIBLE_DEVICES names:
#
#     launch/gpu.sh --config=configs/cifar10.py --workdir=runs/cifar10
#
# Arguments are those of python -m lfr_darts_jax.main. What that needs is installed first, into the virtual environment
# that is active or else into .venv beside this folder, and again where setup.cfg has changed. PYTHON names the
# interpreter that makes .venv.
#
# The run goes on where its terminal is closed or the connection is lost; what it prints stands in DIR.log too. Ctrl-C
# saves its state and ends it, and the same command continues.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=${VIRTUAL_ENV:-$root/.venv}
installed=$environment/.lfr-darts-cuda

log=/dev/null
for ((i = 1, next = 2; i <= $#; i++, next++)); do
  case ${!i} in
    --workdir=* | -workdir=*) log=${!i#*=}.log ;;
    --workdir | -workdir) log=${!next-}.log ;;
  esac
done
# A work directory in the cloud has its log here.
[[ $log != *://* ]] || log=$(basename "$log")

# Without a GPU that works JAX would go on with the processor alone.
if [[ ! ${JAX_PLATFORMS-} ]]; then
  export JAX_PLATFORMS=cuda
  if ! nvidia-smi --list-gpus >/dev/null 2>&1; then
    echo "gpu.sh: nvidia-smi finds no GPU with a driver that works; JAX_PLATFORMS=cpu goes on without" >&2
    exit 2
  fi
fi

if [[ ! -e $environment/bin/python ]]; then
  python=${PYTHON:-python3}
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "gpu.sh: $python is none of 3.11 or newer; PYTHON=FILE names another" >&2
    exit 2
  fi
  "$python" -m venv "$environment"
fi
if [[ ! $installed -nt $root/setup.cfg ]]; then
  "$environment/bin/python" -m pip install -e "${root}[cuda]"
  touch "$installed"
fi

# A signal that is ignored stays so in programs: a closed terminal ends none of them. Ctrl-C is for the run alone.
trap '' HUP
mkdir -p "$(dirname "$log")"
set +e
"$environment/bin/python" -m lfr_darts_jax.main "$@" 2>&1 | tee --ignore-interrupts --append --output-error=warn "$log"
exit "${PIPESTATUS[0]}"
