#!/usr/bin/env bash
# Slurm holds a requeued job back for two minutes. Until it is killed, this lets those start at once.
while sleep 1; do
  squeue -h -t PD -o '%A %r' | awk '$2 == "BeginTime" {print $1}' |
    while read -r job; do scontrol update JobId="$job" StartTime=now; done
done
