"""A wall clock that tests can step for one installation alone, by the system's own means.

A small library, compiled here and loaded before all others (LD_PRELOAD), adds a number of seconds to what the
wall clock says; the number lies in a file that all processes of the installation map. Monotonic clocks are untouched,
as they are when an administrator or NTP sets the clock.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long none, *step = &none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STABLEHAND_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(0, sizeof *step, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) step = mapped;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) at->tv_sec += *step;
    return result;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class WallClock:
    """The wall clock of the processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("needs a C compiler to step the clock of one installation alone")
        self._file, source, library = folder / "clock", folder / "clock.c", folder / "clock.so"
        self.step(0)
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "STABLEHAND_TEST_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """The clock is so many seconds ahead from now on (behind: a negative number)."""
        with self._file.open("r+b" if self._file.exists() else "wb") as out:
            out.write(struct.pack("q", seconds))
