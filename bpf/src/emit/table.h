// ---- Tables ----

// An index that the verifier sees to be within an array. In assembly, since clang drops what it can prove itself.
#define BOUND(index, mask) asm volatile("%0 &= %1" : "+r"(index) : "i"(mask))

// A whole IPv6 address.
struct address {
	u64 high, low;
};

// A step of a search: goes on by so many bytes if the boundary there is not above the word. In assembly: three
// instructions, clang makes nine.
#define STEP(kind, word, bytes)                                                      \
	asm("%1 = *(" #kind " *)(%0 + %3)\n\tif %1 > %2 goto +1\n\t%0 += %3"          \
	    : "+r"(key), "=&r"(probe)                                                 \
	    : "r"(word), "i"(bytes))
// The same for more than a load can be told.
#define LONG_STEP(kind, word, bytes)                                                  \
	asm("%1 = %0\n\t%1 += %3\n\t%1 = *(" #kind " *)(%1 + 0)\n\t"                    \
	    "if %1 > %2 goto +1\n\t%0 += %3"                                            \
	    : "+r"(key), "=&r"(probe)                                                 \
	    : "r"(word), "i"(bytes))
// The same for whole addresses.
#define STEP_ADDRESS(word, low, bytes)                                                \
	asm("%1 = *(u64 *)(%0 + %4)\n\tif %1 > %2 goto +4\n\tif %1 != %2 goto +2\n\t"   \
	    "%1 = *(u64 *)(%0 + %4 + 8)\n\tif %1 > %3 goto +1\n\t%0 += %4"                \
	    : "+r"(key), "=&r"(probe)                                                 \
	    : "r"(word), "r"(low), "i"(bytes))
#define LONG_STEP_ADDRESS(word, low, bytes)                                           \
	asm("%2 = %0\n\t%2 += %5\n\t%1 = *(u64 *)(%2 + 0)\n\tif %1 > %3 goto +4\n\t"    \
	    "if %1 != %3 goto +2\n\t%1 = *(u64 *)(%2 + 8)\n\tif %1 > %4 goto +1\n\t%0 += %5" \
	    : "+r"(key), "=&r"(probe), "=&r"(there)                                   \
	    : "r"(word), "r"(low), "i"(bytes))
// The verifier follows both ways of each step. Here it forgets which one it came, so that it joins them: a
// difference of addresses is any number to it.
#define JOIN(keys, mask) \
	asm("%0 -= %1\n\t%0 &= %2\n\t%0 += %1" : "+r"(key) : "r"(keys), "i"(mask))
// Bytes from the first key.
#define DISTANCE(keys)                                     \
	({                                                 \
		asm("%0 -= %1" : "+r"(key) : "r"(keys)); \
		(u64)key;                                  \
	})

// True for a number from the first of two on that is at most by the second above.
#define WITHIN(bounds, at, value) ((value) - (u64)(bounds)[at] <= (u64)(bounds)[(at) + 1])

// A word of a row, whose place is known to be within the rows.
#define ROW_WORD(rows, row, bytes) (*(const u64 *)((const void *)(rows) + (row) + (bytes)))

// Which bit is the first one, as a place in an array that is ordered to suit: a de Bruijn sequence times what is below
// and with that bit moves another number to the topmost six bits for each.
static __always_inline u64 first_bit(u64 bits)
{
	return (bits ^ (bits - 1)) * 0x03f79d71b4cb0a89ull >> 58;
}
