// ---- Tables ----

// Shows the verifier that an index is within an array. This is in assembly because clang drops a mask that it
// considers redundant.
#define BOUND(index, mask) asm volatile("%0 &= %1" : "+r"(index) : "i"(mask))

// 1 if one number is below the other, else 0, for numbers of which no two are 2^63 apart. The sign of the difference
// tells. The verifier would follow both results of a comparison.
static __always_inline u64 less(u64 one, u64 other)
{
	return (one - other) >> 63;
}

static __always_inline u64 equal(u64 one, u64 other)
{
	return 1 - less(one, other) - less(other, one);
}

// 0 if the first number is below the other, 1 if they are equal, 2 if it is above.
static __always_inline u64 order(u64 one, u64 other)
{
	return 1 + less(other, one) - less(one, other);
}

// A whole IPv6 address.
struct address {
	u64 high, low;
};

// A step of a search, which advances by `bytes` if the boundary there is not above the word. In assembly it takes
// three instructions. Clang needs nine.
#define STEP(kind, word, bytes)                                                      \
	asm("%1 = *(" #kind " *)(%0 + %3)\n\tif %1 > %2 goto +1\n\t%0 += %3"          \
	    : "+r"(key), "=&r"(probe)                                                 \
	    : "r"(word), "i"(bytes))
// The same for distances beyond the offset of a load.
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
// The verifier follows both paths of each step. The paths become equal here, so the verifier joins them: it treats the
// difference of two addresses as an unknown number.
#define JOIN(keys, mask) \
	asm("%0 -= %1\n\t%0 &= %2\n\t%0 += %1" : "+r"(key) : "r"(keys), "i"(mask))
// Bytes from the first key.
#define DISTANCE(keys)                                     \
	({                                                 \
		asm("%0 -= %1" : "+r"(key) : "r"(keys)); \
		(u64)key;                                  \
	})

// True if the number is at least the first bound and exceeds it by at most the second.
#define WITHIN(bounds, at, value) ((value) - (u64)(bounds)[at] <= (u64)(bounds)[(at) + 1])

// Walks the records of a list from an offset in bytes. The first record stands for empty lists.
#define LIST(list, longest, mask, matches)                             \
	if (!at)                                                       \
		return NONE;                                           \
	_Pragma("clang loop unroll(disable)") for (int i = 0; i < longest; i++) \
	{                                                              \
		const struct list *it;                                 \
		u64 rule;                                              \
                                                                       \
		BOUND(at, mask);                                       \
		it = (const void *)list##_records + at;                \
		rule = it->rule;                                       \
		if (matches)                                           \
			return rule & ~LAST;                           \
		if (rule & LAST)                                       \
			break;                                         \
		at += sizeof(*it);                                     \
	}                                                              \
	return NONE

// A flag in a record's rule: it is the last record.
#define LAST 0x80000000ull

// One word of all rows of a connection. The first bit that remains set is the rule.
#define BITS(first, bits) \
	left = bits;          \
	at = first;           \
	if (left)             \
		goto found

// A word of a row. The offset is known to be within the rows.
#define ROW_WORD(rows, row, bytes) (*(const u64 *)((const void *)(rows) + (row) + (bytes)))

// The lowest set bit, as an index into an array in a matching order. The bits up to and including the lowest one are
// multiplied by a de Bruijn sequence. The topmost six bits of the product differ for each bit.
static __always_inline u64 first_bit(u64 bits)
{
	return (bits ^ (bits - 1)) * 0x03f79d71b4cb0a89ull >> 58;
}
