// ---- Whether the device's name is one, or begins with one ----

// A byte of a string literal (NUL after its end), and the two words of a name of at most 15 bytes.
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

// True if the first `length` bytes (1 to 15) match those of the words.
static __always_inline int prefix_match(const struct device *device, u64 first, u64 second, int length)
{
	if (length <= 8)
		return (device->words[0] & FIRST(length)) == first;
	return device->words[0] == first && (device->words[1] & FIRST(length - 8)) == second;
}
