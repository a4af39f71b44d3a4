/* In the place of what elfutils' configure writes. glibc and musl have all of these. */
#define HAVE_ERR_H 1
#define HAVE_DECL_MEMPCPY 1
#define HAVE_DECL_MEMRCHR 1
#define HAVE_DECL_POWEROF2 1
#define HAVE_DECL_REALLOCARRAY 1
#define HAVE_FALLTHROUGH 1
#define HAVE_VISIBILITY 1
#include <eu-config.h>
/* Messages are not translated. */
#undef _
#define _(message) ((char *) (message))
