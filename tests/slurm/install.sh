#!/usr/bin/env bash
# Installs a Slurm where it is missing, as root or where sudo asks for no password. Exits with 1 where that cannot be done.
set -euo pipefail
PATH=$PATH:/usr/sbin
if command -v slurmctld > /dev/null && command -v slurmd > /dev/null && command -v munged > /dev/null; then
  exit 0
fi
as_root=
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2> /dev/null || { echo "the tests on Slurm need root, or sudo without a password" >&2; exit 1; }
  as_root=sudo
fi
command -v apt-get > /dev/null || { echo "the tests on Slurm need apt-get, or slurm-wlm and munge" >&2; exit 1; }
$as_root apt-get update -q
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurm-wlm munge
