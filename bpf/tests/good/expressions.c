SEC("sockops")
int set_rto(struct bpf_sock_ops *ctx)
{
	if (FIELD(op) != BPF_SOCK_OPS_TIMEOUT_INIT)
		return 1;

	if (is_ipv4(ctx)) {
		if (FIELD(local_port) < HOST(remote_port)) {
			if ((FIELD(remote_ip4) & PREFIX(8)) == IPV4(44, 0, 0, 0)) {
				if (FIELD(local_port) == 7300)
					goto n4;
				if (FIELD(local_port) == 22 ||
				    within(FIELD(local_port), 8000, 8999))
					goto n12;
				goto n11;
			}
			if (FIELD(remote_ip4) == IPV4(192, 0, 2, 1))
				goto n8;
			if (FIELD(local_port) == 22 ||
			    within(FIELD(local_port), 8000, 8999))
				goto n8;
			goto n4;
		}
		if (FIELD(local_port) == HOST(remote_port))
			return answer(ctx, 0); // same-port (rules.toml:1)
		if ((FIELD(remote_ip4) & PREFIX(8)) == IPV4(44, 0, 0, 0)) {
			if (FIELD(local_port) == 7300)
				goto n2;
			if (FIELD(local_port) == 22 ||
			    within(FIELD(local_port), 8000, 8999))
				goto n12;
			goto n11;
		}
		if (FIELD(remote_ip4) == IPV4(192, 0, 2, 1))
			goto n6;
		if (FIELD(local_port) == 22 ||
		    within(FIELD(local_port), 8000, 8999))
			goto n6;
		goto n2;
	}
	if (FIELD(local_port) < HOST(remote_port)) {
		if (FIELD(local_port) == 22 ||
		    within(FIELD(local_port), 8000, 8999))
			goto n8;
		if (HOST(remote_port) <= 32767)
			goto n23;
		if (is_incoming(ctx) ||
		    !(FIELD(remote_ip6[0]) == NET32(0x20010db8)))
			goto n3;
		goto n5;
	}
	if (FIELD(local_port) == HOST(remote_port))
		return answer(ctx, 0); // same-port (rules.toml:1)
	if (FIELD(local_port) == 22 ||
	    within(FIELD(local_port), 8000, 8999))
		goto n6;
	goto n23;

n2:
	if (same_address(ctx))
		return answer(ctx, 4); // same-address (rules.toml:21)
	return 1;

n3:
	return answer(ctx, 3); // orders (rules.toml:16)

n4:
	if (HOST(remote_port) <= 32767)
		goto n2;
	goto n3;

n5:
	return answer(ctx, 2); // sets (rules.toml:11)

n6:
	if (is_incoming(ctx))
		goto n2;
	goto n5;

n8:
	if (HOST(remote_port) <= 32767)
		goto n6;
	if (is_incoming(ctx))
		goto n3;
	goto n5;

n11:
	if (remote_port_is(7300))
		goto n2;
	return answer(ctx, 1); // amprnet-but-one-port (rules.toml:6)

n12:
	if (remote_port_is(7300))
		goto n6;
	return answer(ctx, 1); // amprnet-but-one-port (rules.toml:6)

n23:
	if (is_incoming(ctx))
		goto n2;
	if (same_address(ctx)) {
		if (FIELD(remote_ip6[0]) == NET32(0x20010db8))
			goto n5;
		return answer(ctx, 4); // same-address (rules.toml:21)
	}
	if (FIELD(remote_ip6[0]) == NET32(0x20010db8))
		goto n5;
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
