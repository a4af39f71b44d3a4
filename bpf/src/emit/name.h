// ---- Whether the device's name matches a pattern ----

// A byte of a string literal, NUL behind its end, and the two words of a name of 15 bytes at most.
#define BYTE(text, i) ((u64)(u8)(text)[(i) < sizeof(text) ? (i) : sizeof(text) - 1])
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SHIFT(i) (8 * (i))
#define FIRST(bytes) (~0ull >> (64 - 8 * (bytes)))
#else
#define SHIFT(i) (56 - 8 * (i))
#define FIRST(bytes) (~0ull << (64 - 8 * (bytes)))
#endif
#define WORD(text, at)                                                                          \
	(BYTE(text, at) << SHIFT(0) | BYTE(text, at + 1) << SHIFT(1) |                          \
	 BYTE(text, at + 2) << SHIFT(2) | BYTE(text, at + 3) << SHIFT(3) |                      \
	 BYTE(text, at + 4) << SHIFT(4) | BYTE(text, at + 5) << SHIFT(5) |                      \
	 BYTE(text, at + 6) << SHIFT(6) | BYTE(text, at + 7) << SHIFT(7))

#define named(device, text) \
	((device)->words[0] == WORD(text, 0) && (device)->words[1] == WORD(text, 8))
#define starts_with(device, text) \
	prefix_match(device, WORD(text, 0), WORD(text, 8), sizeof(text) - 1)
#define glob(device, pattern) glob_match(device, pattern, sizeof(pattern) - 1)

// The first `length` bytes, 1 to 15, are those of the words.
static __always_inline int prefix_match(const struct device *device, u64 first, u64 second, int length)
{
	if (length <= 8)
		return (device->words[0] & FIRST(length)) == first;
	return device->words[0] == first && (device->words[1] & FIRST(length - 8)) == second;
}

// 1 for zero, else 0, without a branch: the verifier would follow both ways at each of many places.
static __always_inline u64 is_zero(u64 byte)
{
	asm volatile("" : "+r"(byte));
	return (byte - 1) >> 63;
}

// `*` is any run of characters, `?` any single one. All places in the pattern that the name can have
// reached so far are a set of bits, moved on by each character.
static __always_inline int glob_match(const struct device *device, const char *pattern, int length)
{
	u64 places = 1, matches = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 16; i++) {
		u64 end = is_zero((u8)device->name[i]), next = 0;

#pragma unroll
		for (int p = 0; p < length; p++)
			if (pattern[p] == '*')
				places |= (places & 1ull << p) << 1;
		matches |= places >> length & end;
#pragma unroll
		for (int p = 0; p < length; p++) {
			u64 here = places >> p & 1;

			if (pattern[p] == '*')
				next |= here << p;
			else if (pattern[p] == '?')
				next |= here << (p + 1);
			else
				next |= (here & is_zero((u8)device->name[i] ^ (u8)pattern[p])) << (p + 1);
		}
		// Behind the end of the name there is nothing to match.
		places = next & (end - 1);
	}
	return matches & 1;
}
