/* The functions of zlib that libelf and libbpf name, for compressed sections of ELF files and for /proc/config.gz.
   None of ours is compressed, and no kernel configuration is asked for. Each fails as the real one may, and its
   caller passes that on as an error. (Checked against the callers in libbpf 1.7 and elfutils 0.191.) */

#define STREAM_ERROR (-2)

int deflateInit_(void) { return STREAM_ERROR; }
int deflate(void) { return STREAM_ERROR; }
int deflateEnd(void) { return STREAM_ERROR; }
int inflateInit_(void) { return STREAM_ERROR; }
int inflate(void) { return STREAM_ERROR; }
int inflateReset(void) { return STREAM_ERROR; }
int inflateEnd(void) { return STREAM_ERROR; }
int gzclose(void) { return STREAM_ERROR; }
char *gzgets(void) { return 0; }
void *gzopen(void) { return 0; }
void *gzopen64(void) { return 0; }
