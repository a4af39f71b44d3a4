// ---- Which lists of patterns an interface's name matches ----
//
// All patterns form one automaton: each byte leads from a state to the next. They are tables, so the cost of
// verification and of a connection does not depend on the patterns.

// An entry below this is the offset of the next state's entries in bytes; add four times the next byte's group.
// Any other entry is the offset of a result.
#define END_OF_NAME 0x40000000u

// `name` is NUL-padded, and a NUL always leads to a result. `mask` keeps any offset within the entries.
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
