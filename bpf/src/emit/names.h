// ---- Which lists of patterns an interface's name matches ----
//
// All patterns are one automaton, or a few: a byte leads from a state to the next. In tables, since the verifier's
// work and that of a connection then do not depend on the patterns.

// What an entry is: below this the place of the next state's entries in bytes, to which four times the next byte's
// group is added; else the place of a result.
#define END_OF_NAME 0x40000000u

// `name` is NUL-padded, and a NUL always leads to a result. `mask` keeps to the entries, whatever they are.
#define WALK(automaton, name, mask)                                                            \
	({                                                                                     \
		u64 entry = 0;                                                                 \
		_Pragma("unroll") for (int i = 0; i < 16; i++)                                 \
		{                                                                              \
			u64 at = (entry + automaton##_groups[(u8)(name)[i]]) & (mask);        \
			entry = *(const u32 *)((const void *)automaton##_entries + at);        \
			if (entry >= END_OF_NAME)                                              \
				break;                                                         \
		}                                                                              \
		entry;                                                                         \
	})
