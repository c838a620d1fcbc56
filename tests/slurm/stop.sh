#!/usr/bin/env bash
# Ends what start.sh has started in a folder, by pid, with all its jobs; then removes the folder. Usage: stop.sh FOLDER
folder=$1
export SLURM_CONF=$folder/slurm.conf
scancel --user="$(id -un)" 2> /dev/null
for job in $(squeue -h -o %A 2> /dev/null); do scancel --signal=KILL --full "$job"; scancel "$job"; done
for _ in $(seq 15); do [ -z "$(squeue -h 2> /dev/null)" ] && break; sleep 1; done
for daemon in slurmd slurmctld munged; do
  [ -s "$folder/$daemon.pid" ] || continue
  pid=$(cat "$folder/$daemon.pid")
  kill "$pid"
  for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.2; done
done
rm -rf "$folder"
