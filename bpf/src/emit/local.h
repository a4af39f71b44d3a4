// ---- Devices as `set-rto install` found them ----

static void *(*map_lookup)(void *map, const void *key) = (void *)1;

// How devices are found, for all rules alike: filled in by the loader, which loads the program only once it is
// known. What is not used then is dead code to the verifier; a kernel need not have it.
enum { BY_ROUTE, BY_ADDRESS };
const volatile struct finding {
	u32 method;
	u32 why; // for `set-rto status`
	u64 cookie; // of the network namespace whose names are meant; 0 where the kernel tells none
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
	u32 is_vrf; // 1: stands for the devices in it
};

// By local address, IPv4 mapped, the device that has it; by BY_INDEX and the ifindex, every device.
struct {
	int (*type)[1]; // BPF_MAP_TYPE_HASH
	int (*max_entries)[65536];
	int (*map_flags)[1]; // BPF_F_NO_PREALLOC
	u32 (*key)[4];
	struct local_device *value;
} local_devices SEC(".maps");

// No address begins so that a connection can have.
#define BY_INDEX 0xffffffff, 0xffffffff, 0

static __always_inline struct local_device *device_of_index(u32 index)
{
	u32 key[4] = { BY_INDEX, index };

	return map_lookup(&local_devices, key);
}

// The device that has the address of an end. Not the ip6 fields as they are: without CONFIG_IPV6 they are zero.
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

// What an index that a socket is bound to, or that a packet came in by, means: for a VRF, of which alone the kernel
// tells (vrf_ip_rcv(), drivers/net/vrf.c), the device in it that has the local address.
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

// The part of struct bpf_sock that is used (include/uapi/linux/bpf.h).
struct bpf_sock {
	u32 bound_dev_if;
};

// A full socket; 0 for a request socket.
#define SOCKET(ctx)                                                                  \
	({                                                                           \
		struct bpf_sock *socket;                                             \
		asm volatile("%0 = *(u64 *)(%1 + 184)" : "=&r"(socket) : "r"(ctx)); \
		socket;                                                              \
	})

struct device {
	union {
		char name[16]; // NUL-padded
		u64 words[2];
		struct device_name whole;
	};
	int found; // 0: not looked for yet, 1: yes, -1: there is none
};
