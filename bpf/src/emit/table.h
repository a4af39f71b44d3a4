// ---- Tables of addresses ----
//
// Sorted boundaries, the address's word is somewhere between two. An array of entries, indexed by the distance from
// the first boundary, says between which ones; where too many fall into one entry a node spreads these over entries
// of their own. The last few steps halve what is left.

// Which kind an entry is, by size: what is below all of these is the answer. The rest is a place. LOW: the address's
// lower half decides.
#define LOW_SEARCH 0x10000000u
#define LOW_NODE 0x20000000u
#define SEARCH 0x30000000u
#define NODE 0x40000000u

struct node {
	u64 first; // boundary
	u32 shift, last; // how far apart and how many the entries are
	u32 place; // of entry 0, which holds below the first boundary too, as the last does above the last
	u32 unused[3]; // 32 bytes
};

static __always_inline u64 place_of(const void *nodes, u64 offset, u64 word)
{
	const struct node *node = nodes + offset;
	u64 at = 0;

	if (word > node->first) {
		at = (word - node->first) >> node->shift;
		if (at > node->last)
			at = node->last;
	}
	return node->place + at;
}

struct start32 {
	u32 first, value;
};

struct start64 {
	u64 first, value;
};

// Goes on by so many bytes if the boundary there is not above. In assembly: three instructions, clang makes nine.
#define STEP(size, bytes)                                                            \
	asm("%1 = *(u" #size " *)(%0 + %3)\n\tif %1 > %2 goto +1\n\t%0 += %3"          \
	    : "+r"(at), "=&r"(probe)                                                  \
	    : "r"(word), "i"(bytes))
// The same for more than a load can be told.
#define LONG_STEP(size, bytes)                                                        \
	asm("%1 = %0\n\t%1 += %3\n\t%1 = *(u" #size " *)(%1 + 0)\n\t"                   \
	    "if %1 > %2 goto +1\n\t%0 += %3"                                            \
	    : "+r"(at), "=&r"(probe)                                                  \
	    : "r"(word), "i"(bytes))
// The verifier follows both ways of each step. Here it forgets which one it came, so that it joins them: a
// difference of addresses is any number to it.
#define JOIN(starts, mask) \
	asm("%0 -= %1\n\t%0 &= %2\n\t%0 += %1" : "+r"(at) : "r"(starts), "i"(mask))

// An IPv6 address's upper half decides, or leads on to the lower one.
#define IN_HALVES(table, address)                                          \
	({                                                                 \
		u64 entry = table##_upper(HALF(address, 0));               \
		if (entry >= LOW_SEARCH)                                   \
			entry = table##_lower(entry, HALF(address, 2));    \
		entry;                                                     \
	})
