// ---- Rules as data ----
//
// What is known of a connection stands in a word or two, field by field, each with a spare bit above it, its guard. A
// test holds a word against the first and the last value of all its fields at once: a subtraction leaves the guard of a
// field alone where it is large enough, and only there. A test leads on to one of two others, or to an answer.
//
// There is no branch in a walk but its end: the kernel's verifier would follow both ways, at each of its turns.

// What is not below is no place of a test, in bytes, but the number of a rule, RULES for none.
#define ANSWER 0x1000000

// An index that the verifier sees to be within an array. In assembly, since clang drops what it can prove itself.
#define BOUND(index, mask) asm volatile("%0 &= %1" : "+r"(index) : "i"(mask))

// The guards of the fields that lie within bounds. The first values are stored less the guards, the last ones with them.
static __always_inline u64 guards_within(const void *bounds, u64 word)
{
	return (word - *(const u64 *)bounds) & (*(const u64 *)(bounds + 8) - word);
}

// 4 for a negative number, else 0: a place in a test's two ways to go on.
static __always_inline u64 four_if_negative(u64 number)
{
	asm volatile("" : "+r"(number));
	return number >> 61 & 4;
}

#define missed(inside, guards) four_if_negative(((inside) & (guards)) - (guards))

// 4 where the lists of interfaces that the device's name matches are not those that are wanted, else 0.
static __always_inline u64 differs(const void *wanted, u64 lists)
{
	u64 others = (lists ^ *(const u64 *)wanted) & *(const u64 *)(wanted + 8);

	// Halved, what is left has no sign, and its negative is one.
	return four_if_negative(-(others >> 1 | (others & 1)));
}

// The earlier of two rules.
static __always_inline u64 first_of(u64 rule, u64 other)
{
	u64 less = other - rule, sign;

	asm volatile("%0 = %1\n\t%0 s>>= 63" : "=r"(sign) : "r"(less));
	return rule + (less & sign);
}

// A word of a row, whose place is known to be within the rows.
#define ROW_WORD(rows, row, bytes) (*(const u64 *)((const void *)(rows) + (row) + (bytes)))

// Which bit is the first one, as a place in an array that is ordered to suit: a de Bruijn sequence times what is below
// and with that bit moves another number to the topmost six bits for each.
static __always_inline u64 first_bit(u64 bits)
{
	return (bits ^ (bits - 1)) * 0x03f79d71b4cb0a89ull >> 58;
}
