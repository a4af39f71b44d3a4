#!/bin/sh
# set-rto from a container, on the host's cgroups and BPF file system: `run.sh install`, `run.sh status`, …
# It has just the privileges that it needs: DAC_OVERRIDE for the cgroup in which settings are tried, and SYS_ADMIN only
# for `status`, which reads hits. The engines' AppArmor profile forbids pins below /sys. ENGINE names another engine than
# podman, IMAGE another image.
set -e
admin=
[ "$1" != status ] || admin=--cap-add=SYS_ADMIN
exec "${ENGINE:-podman}" run --rm --cgroupns=host --network=host --read-only \
	--cap-drop=ALL --cap-add=BPF --cap-add=NET_ADMIN --cap-add=PERFMON --cap-add=DAC_OVERRIDE $admin \
	--security-opt=no-new-privileges --security-opt=seccomp=unconfined --security-opt=apparmor=unconfined \
	--volume=/sys/fs/bpf:/sys/fs/bpf --volume=/sys/fs/cgroup:/sys/fs/cgroup \
	"${IMAGE:-set-rto}" "$@"
