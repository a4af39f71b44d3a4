// ---- The device that the SYN leaves by or came in by ----

static u64 (*get_netns_cookie)(void *ctx) = (void *)122;

// For kernels that do not let programs read their structures. This method reads only a map.
static __always_inline int find_by_address(struct bpf_sock_ops *ctx, struct device *device)
{
	struct local_device *found;
	u32 index = 0;

#ifdef ARRIVALS
	if (is_incoming(ctx))
		index = incoming_index(ctx);
#endif
	if (!index) {
		struct bpf_sock *socket = SOCKET(ctx);

		// The socket is bound to the device, or to a link-local address.
		if (socket)
			index = socket->bound_dev_if;
	}
	found = index ? device_meant(ctx, index) : device_of_address(ctx);
	if (!found)
		return 0;
	device->whole = found->name;
	return 1;
}

static __always_inline int find_device(struct bpf_sock_ops *ctx, struct device *device)
{
	int found;

	if (device->found)
		return device->found > 0;
	// The kernel reuses the inode number of a network namespace, but never its cookie.
	if (finding.cookie && get_netns_cookie(ctx) != finding.cookie)
		found = 0;
	else if (finding.method == BY_ADDRESS)
		found = find_by_address(ctx, device);
	else
		found = find_by_route(ctx, device);
	device->found = found ? 1 : -1;
	return found;
}
