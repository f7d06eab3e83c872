/* A library that never returns from being loaded. STUCK_FILE: where it writes how its process is protected. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
    struct rlimit core;
    int file = open(getenv("STUCK_FILE"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    getrlimit(RLIMIT_CORE, &core);
    dprintf(file, "dumpable=%d core=%ld\n", prctl(PR_GET_DUMPABLE), (long)core.rlim_max);
    close(file);
    for (;;)
        pause();
}
