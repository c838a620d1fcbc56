#!/usr/bin/env bash
# Installs Slurm where it is missing, starts one node of it, runs the tests marked `slurm`, and stops it whatever happens.
# Usage: run.sh PYTHON [arguments of pytest]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$1
shift
export PATH=$here:$PATH:/usr/sbin  # here: sacct
as_root=
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2> /dev/null || { echo "the tests on Slurm need root, or sudo without a password" >&2; exit 1; }
  as_root=sudo
fi
bash "$here/install.sh"
folder=$(mktemp -d)
releasing=
stop() {
  [ -z "$releasing" ] || kill "$releasing" 2> /dev/null || true
  $as_root bash "$here/stop.sh" "$folder"
}
trap stop EXIT
$as_root bash "$here/start.sh" "$folder"
export SLURM_CONF=$folder/slurm.conf
bash "$here/release_requeued.sh" &
releasing=$!
if ! "$python" -m pytest -n 5 -m slurm "$@" "$here"; then  # they wait more than they compute
  $as_root tail -n 60 "$folder/slurmctld.log"
  exit 1
fi
