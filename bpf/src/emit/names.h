// ---- Which lists of patterns an interface's name matches ----
//
// All patterns form one automaton, in which each byte leads from one state to the next. The automaton is stored as
// tables, so the cost of verification and of a connection does not depend on the patterns.

// An entry below this value is the byte offset of the next state's entries, to which four times the next byte's group
// is added. Any other entry is the offset of a result.
#define END_OF_NAME 0x40000000u

// `name` is NUL-padded, and a NUL always leads to a result. `mask` keeps every offset within the entries.
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
