#!/bin/sh
# set-rto from a container, on the host's cgroups and BPF file system: `run.sh install`, `run.sh status`, …
# The privileges are all that it takes: DAC_OVERRIDE is for the cgroup in which settings are tried, SYS_ADMIN for
# `status` alone, which reads hits with it. ENGINE names another engine than podman, IMAGE another image.
set -e
admin=
[ "$1" != status ] || admin=--cap-add=SYS_ADMIN
exec "${ENGINE:-podman}" run --rm --cgroupns=host --network=host --read-only \
	--cap-drop=ALL --cap-add=BPF --cap-add=NET_ADMIN --cap-add=PERFMON --cap-add=DAC_OVERRIDE $admin \
	--security-opt=no-new-privileges --security-opt=seccomp=unconfined \
	--volume=/sys/fs/bpf:/sys/fs/bpf --volume=/sys/fs/cgroup:/sys/fs/cgroup \
	"${IMAGE:-set-rto}" "$@"
