// ---- Devices as `set-rto install` found them ----

static void *(*map_lookup)(void *map, const void *key) = (void *)1;

// The method that finds devices, common to all rules. The loader fills this in before it loads the program. The unused
// method is then dead code to the verifier, and the kernel need not support it.
enum { BY_ROUTE, BY_ADDRESS };
const volatile struct finding {
	u32 method;
	u32 why; // for `set-rto status`
	u64 cookie; // of the network namespace that the names belong to; 0 if the kernel provides none
	u32 arrivals; // 1: `note_arrival` runs
	u32 pointer; // bytes of a pointer in the kernel
	struct offsets at;
} finding SEC(".rodata.device") = {
	.pointer = 8,
};

struct device_name {
	union {
		char text[16]; // NUL-padded
		u64 words[2];
	};
};

struct local_device {
	struct device_name name;
	u32 index;
	u32 is_vrf; // 1: a VRF, which represents the devices in it
};

// Two kinds of keys: a local address (IPv4 mapped), which leads to its device, and BY_INDEX with an ifindex.
struct {
	int (*type)[1]; // BPF_MAP_TYPE_HASH
	int (*max_entries)[65536];
	int (*map_flags)[1]; // BPF_F_NO_PREALLOC
	u32 (*key)[4];
	struct local_device *value;
} local_devices SEC(".maps");

// No address of a connection begins with this prefix.
#define BY_INDEX 0xffffffff, 0xffffffff, 0

static __always_inline struct local_device *device_of_index(u32 index)
{
	u32 key[4] = { BY_INDEX, index };

	return map_lookup(&local_devices, key);
}

// The device that has the address of one end. The ip6 fields are not enough: without CONFIG_IPV6 they are zero.
#define DEVICE_OF(end)                                                    \
	({                                                                \
		u32 key[4] = { 0, 0, NET32(0xffff), FIELD(end##_ip4) };  \
		if (!is_ipv4(ctx)) {                                      \
			key[0] = FIELD(end##_ip6[0]);                     \
			key[1] = FIELD(end##_ip6[1]);                     \
			key[2] = FIELD(end##_ip6[2]);                     \
			key[3] = FIELD(end##_ip6[3]);                     \
		}                                                         \
		map_lookup(&local_devices, key);                          \
	})

static __always_inline struct local_device *device_of_address(struct bpf_sock_ops *ctx)
{
	return DEVICE_OF(local);
}

// The device with the index to which a socket is bound or on which a packet arrived. For devices in a VRF the kernel
// reports only the VRF (vrf_ip_rcv(), drivers/net/vrf.c). The device is then the one in the VRF that has the local
// address.
static __always_inline struct local_device *device_meant(struct bpf_sock_ops *ctx, u32 index)
{
	struct local_device *device = device_of_index(index);

	if (device && device->is_vrf) {
		struct local_device *member = device_of_address(ctx);

		if (member)
			return member;
	}
	return device;
}

struct device {
	union {
		char name[16]; // NUL-padded
		u64 words[2];
		struct device_name whole;
	};
	int found; // 0: not searched yet, 1: found, -1: there is no device
};
