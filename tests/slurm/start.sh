#!/usr/bin/env bash
# Starts a Slurm of one node on this machine, as root, and prints the line that sets SLURM_CONF. Usage: start.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
chmod 755 "$folder"
chmod 700 "$folder/munge"
head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 400 "$folder/munge/key"
munged --force --key-file="$folder/munge/key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
read -r controller node < <(python3 - <<'PORTS'
import socket
free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in free))
PORTS
)
sed -e "s#@HOST@#$(hostname -s)#g;s#@DIR@#$folder#g" \
  -e "s#@CONTROLLER_PORT@#$controller#g;s#@NODE_PORT@#$node#g" "$here/slurm.conf" > "$folder/slurm.conf"
echo "Name=slot Count=1" > "$folder/gres.conf"
export SLURM_CONF=$folder/slurm.conf
slurmctld -c -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 30); do
  [ "$(sinfo -h -p work -o %T 2> /dev/null)" = idle ] && { echo "export SLURM_CONF=$SLURM_CONF"; exit 0; }
  sleep 1
done
echo "Slurm is not ready after 30 s:" >&2
tail -n 20 "$folder"/*.log >&2
exit 1
