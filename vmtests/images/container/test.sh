# Runs in the guest, as its init: the container images and what they need, by podman and crun.
. /payload/lib.sh

mkdir -p /etc/containers /run/build/node
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
printf '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n[containers]\nlog_driver="k8s-file"\n' >/etc/containers/containers.conf
printf '[storage]\ndriver="vfs"\nrunroot="/run/c"\ngraphroot="/run/containers"\n' >/etc/containers/storage.conf
PATH=$PATH:/payload

# The host's own binary sees what the containers did.
set-rto() {
	/payload/set-rto "$@"
}

ip link set lo up
ip link add radio0 type dummy
ip addr add 192.0.2.1/24 dev radio0
ip link set radio0 up

check apparmor grep -q Y /sys/module/apparmor/parameters/enabled

## The image of one file
cp /payload/set-rto /payload/Containerfile /run/build
check build podman build -q -t set-rto -f /run/build/Containerfile /run/build
podman save set-rto -o /run/set-rto.tar
mkdir /run/layers && tar -C /run/layers -xf /run/set-rto.tar
check one_file is set-rto sh -c 'for l in /run/layers/*.tar; do tar -tf $l; done'
check no_policy_at_first exits 3 set-rto status
check install run.sh install
check installed exits 0 set-rto status
check on_the_root_cgroup has '"cgroup":"/sys/fs/cgroup"' set-rto status --json
check timer is 20000 timer 192.0.2.2 12345
check timer_others is 1000 timer 192.0.2.2 12346
check settings_were_tried not has 'could not be tried' run.sh install
link=$(field link_id)
check status run.sh status
check nothing_runs is '' podman ps -q
check remove run.sh remove
check removed exits 3 set-rto status
# The commands of the README
mkdir -p /run/readme/target/dist/x86_64 /run/readme/scripts/packaging/container
cp /payload/set-rto /run/readme/target/dist/x86_64
cp /payload/Containerfile /payload/run.sh /run/readme/scripts/packaging/container
podman rmi set-rto >/dev/null
cd /run/readme
check readme bash -e /payload/readme.sh
cd /
check readme_status exits 0 set-rto status
check readme_timer is 20000 timer 192.0.2.2 12345
check readme_remove run.sh remove
# The profile of the engine lets nothing be pinned.
check without_apparmor_unconfined has 'Permission denied' podman run --rm --cgroupns=host --network=host --cap-drop=ALL \
	--cap-add=BPF --cap-add=NET_ADMIN --cap-add=PERFMON --cap-add=DAC_OVERRIDE --security-opt=seccomp=unconfined \
	-v /sys/fs/bpf:/sys/fs/bpf -v /sys/fs/cgroup:/sys/fs/cgroup set-rto install
# Without one of the privileges, install fails with a message.
check without_bpf not podman run --rm --cgroupns=host --network=host --cap-drop=ALL --cap-add=NET_ADMIN \
	-v /sys/fs/bpf:/sys/fs/bpf -v /sys/fs/cgroup:/sys/fs/cgroup set-rto install
check without_net_admin not podman run --rm --cgroupns=host --network=host --cap-drop=ALL --cap-add=BPF \
	-v /sys/fs/bpf:/sys/fs/bpf -v /sys/fs/cgroup:/sys/fs/cgroup set-rto install
check still_removed exits 3 set-rto status

## The manifest: its containers as podman makes them of it
mkdir /run/pause && cp /bin/busybox /run/pause
printf 'FROM scratch\nCOPY busybox /busybox\nENTRYPOINT ["/busybox", "sleep", "10000"]\n' >/run/pause/Containerfile
check build_pause podman build -q -t pause -f /run/pause/Containerfile /run/pause
check build_node podman build -q -t set-rto-node --target node --build-arg PAUSE=localhost/pause \
	-f /run/build/Containerfile /run/build
podman tag set-rto set-rto:0.2.0
podman tag set-rto-node set-rto-node:0.2.0
check pod podman kube play --network=host /payload/daemonset.yaml
check pod_installed exits 0 set-rto status
check pod_on_the_root_cgroup has '"cgroup":"/sys/fs/cgroup"' set-rto status --json
check pod_timer is 20000 timer 192.0.2.2 12345
wait_container=$(podman ps --format '{{.Names}}' | grep -e '-wait$')
check pod_waits test -n "$wait_container"
# podman runs neither hooks nor readiness probes: the same commands, in the same container.
hook() {
	words=$(sed -n "/$1:/,/command:/s/.*command: \[\(.*\)\]/\1/p" /payload/daemonset.yaml | tr -d '",')
	podman exec "$wait_container" $words
}
check ready hook readinessProbe
# A newer pod has attached other rules. This one leaves them there, and is no longer ready.
dpkg-deb -x /payload/2.deb /run/newer
check update /run/newer/usr/sbin/set-rto install
check pre_stop_of_the_old_one has 'rules of another binary' hook preStop
check update_stays exits 0 /run/newer/usr/sbin/set-rto status
check update_timer is 30000 timer 192.0.2.2 12345
check old_is_not_ready exits 4 hook readinessProbe
check post_start hook postStart
check post_start_installed exits 0 set-rto status
check pre_stop hook preStop
check pre_stop_removed exits 3 set-rto status
check pod_down podman kube down /payload/daemonset.yaml

## A cgroup namespace of its own, as Kubernetes gives it
check private_cgroups podman run --rm --cgroupns=private --network=host --read-only --cap-drop=ALL --cap-add=BPF \
	--cap-add=NET_ADMIN --cap-add=PERFMON --cap-add=DAC_OVERRIDE --security-opt=no-new-privileges \
	--security-opt=seccomp=unconfined --security-opt=apparmor=unconfined \
	-v /sys/fs/bpf:/sys/fs/bpf -v /sys/fs/cgroup:/host/cgroup set-rto install --cgroup /host/cgroup
check private_on_the_root_cgroup has '"cgroup":"/sys/fs/cgroup"' set-rto status --json
check private_timer is 20000 timer 192.0.2.2 12345
finish
