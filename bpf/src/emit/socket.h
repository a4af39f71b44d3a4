// ---- The socket ----

// The part of struct bpf_sock that this program uses (include/uapi/linux/bpf.h).
struct bpf_sock {
	u32 bound_dev_if;
	u32 family;
	u32 type;
	u32 protocol;
	u32 mark;
	u32 priority;
};

// Returns a full socket, or 0 for a request socket.
#define SOCKET(ctx)                                                                  \
	({                                                                           \
		struct bpf_sock *socket;                                             \
		asm volatile("%0 = *(u64 *)(%1 + 184)" : "=&r"(socket) : "r"(ctx)); \
		socket;                                                              \
	})

// A number of a full socket, or 0.
#define OF_SOCKET(name)                           \
	({                                        \
		struct bpf_sock *it = SOCKET(ctx); \
		it ? (u64)it->name : 0;           \
	})
