"""The inside of a python grader's process: shuts every door, then runs the code. Imports the standard library alone.

Started by `sandbox` as `python -I -S jail.py`, with the job as JSON on stdin; the last thing it writes to stdout is the
outcome as JSON. Each door is the kernel's own: Landlock for files (and TCP), a seccomp filter that lets through nothing
but the few dozen system calls a single-threaded computation needs, and rlimits. If one cannot be shut, no code runs.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

# linux/landlock.h, linux/seccomp.h, linux/prctl.h
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version of Landlock knows; all are taken away."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_X32_BIT = 0x40000000

_X86_64 = (
    # read write open close stat fstat lstat poll lseek mmap mprotect munmap brk, signals
    *range(16),
    # ioctl pread readv writev access pipe select sched_yield mremap madvise dup dup2 nanosleep getpid exit uname fcntl
    *(16, 17, 19, 20, 21, 22, 23, 24, 25, 28, 32, 33, 35, 39, 60, 63, 72),
    # getcwd gettimeofday getrusage sysinfo times, ids, sigaltstack arch_prctl gettid time futex
    *(79, 96, 98, 99, 100, 102, 104, 107, 108, 110, 131, 158, 186, 201, 202),
    # sched_getaffinity getdents64 set_tid_address restart_syscall, clocks, exit_group openat newfstatat
    *(204, 217, 218, 219, 228, 229, 230, 231, 257, 262),
    # faccessat pselect6 ppoll set_robust_list dup3 pipe2 getcpu getrandom membarrier statx rseq faccessat2
    *(269, 270, 271, 273, 292, 293, 309, 318, 324, 332, 334, 439),
)
_AARCH64 = (
    # getcwd dup dup3 fcntl ioctl faccessat openat close pipe2 getdents64 lseek read write readv writev pread64
    *(17, 23, 24, 25, 29, 48, 56, 57, 59, 61, 62, 63, 64, 65, 66, 67),
    # pselect6 ppoll newfstatat fstat exit exit_group set_tid_address futex set_robust_list nanosleep, clocks
    *(72, 73, 79, 80, 93, 94, 96, 98, 99, 101, 113, 114, 115),
    # sched_getaffinity sched_yield restart_syscall, signals, times uname getrusage getcpu gettimeofday, ids, sysinfo
    *(123, 124, 128, 132, 134, 135, 139, 153, 160, 165, 168, 169, 172, 173, 174, 175, 176, 177, 178, 179),
    # brk munmap mremap mmap mprotect madvise getrandom membarrier statx rseq faccessat2
    *(214, 215, 216, 222, 226, 233, 278, 283, 291, 293, 439),
)
MACHINES = {"x86_64": (0xC000003E, _X86_64, 234, 72), "aarch64": (0xC00000B7, _AARCH64, 131, 25)}
"""By machine: seccomp's number for it, the system calls that are let through, tgkill (to itself only), and fcntl."""
_OWNERS = (8, 10, 15)
"""fcntl's F_SETOWN, F_SETSIG and F_SETOWN_EX."""


class JailError(Exception):
    """A door that cannot be shut on this machine."""


def landlock_abi() -> int:
    """Return the version of Landlock here, 0 if there is none."""
    found = _LIBC.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, int(found))


def _checked(result: int, door: str) -> int:
    if result < 0:
        raise JailError(f"{door} cannot be set up: {os.strerror(ctypes.get_errno())}")
    return result


def imported(folders: list[str]) -> list[str]:
    """Return where packages lie that were imported from these folders: those that were asked for, and what they need.

    Packages import parts of one another as late as when a function is called.
    """
    found = set()
    for name in list(sys.modules):
        spec = getattr(sys.modules[name], "__spec__", None)
        if spec is not None and "." not in name:
            found |= {*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else ())}
    return sorted(place for place in found if Path(place).parent.as_posix() in folders)


def shut_files(readable: list[str], *, listable: list[str]) -> None:
    """Take away all files but reading these and those below them; with Landlock 4 and later TCP too, with 6 signals.

    What is listable shows the names of its files, not what is in them: imports look for names.
    """
    if sum(1 for _ in Path("/proc/self/task").iterdir()) != 1:
        raise JailError("the imported packages have started threads, which cannot be shut in")
    abi = landlock_abi()
    if abi < 1:
        raise JailError("this kernel has no Landlock (Linux 5.13 and later has it, where it is switched on)")
    rights = (1 << _RIGHTS_BY_ABI.get(abi, 16)) - 1
    net = 0b11 if abi >= 4 else 0  # noqa: PLR2004 - the version that learned of TCP
    scoped = 0b11 if abi >= 6 else 0  # noqa: PLR2004 - of abstract sockets and signals
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8  # noqa: PLR2004 - the struct grew with them
    ruleset = ctypes.create_string_buffer(struct.pack("=QQQ", rights, net, scoped)[:size])
    created = _LIBC.syscall(_LANDLOCK_CREATE, ruleset, ctypes.c_size_t(size), ctypes.c_uint32(0))
    handle = _checked(created, "Landlock")
    for path in listable:
        _let_through(handle, path, _READ_DIR)
    for path in readable:
        # Rights over folders cannot be given for a file.
        _let_through(handle, path, _READ_FILE | _READ_DIR if Path(path).is_dir() else _READ_FILE)
    _checked(_LIBC.syscall(_LANDLOCK_RESTRICT, handle, ctypes.c_uint32(0)), "Landlock")
    os.close(handle)


def _let_through(handle: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place))
    _checked(_LIBC.syscall(_LANDLOCK_ADD, handle, 1, rule, ctypes.c_uint32(0)), "Landlock")
    os.close(place)


def _filter(machine: str, pid: int) -> bytes:
    """The seccomp filter as BPF: what is not listed fails with EPERM; another machine's calls end the process."""
    number, allowed, tgkill, fcntl = MACHINES[machine]

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    program = [statement(load, 4), statement(equal, number, 1, 0), statement(give, _KILL), statement(load, 0)]
    program += [statement(at_least, _X32_BIT, 0, 1), statement(give, _KILL)]
    # Signals to nobody but this process itself (abort and raise need that).
    program += [statement(equal, tgkill, 0, 4), statement(load, 16), statement(equal, pid, 0, 1)]
    program += [statement(give, _ALLOW), statement(give, _ERRNO | _EPERM)]
    # A file's owner gets a signal of one's choice when there is something to read: a way to end other processes.
    program += [statement(equal, fcntl, 0, 6), statement(load, 24)]
    program += [statement(equal, each, len(_OWNERS) - at, 0) for at, each in enumerate(_OWNERS)]
    program += [statement(give, _ALLOW), statement(give, _ERRNO | _EPERM)]
    for call in sorted(set(allowed) - {fcntl}):
        program += [statement(equal, call, 0, 1), statement(give, _ALLOW)]
    program += [statement(equal, 435, 0, 1), statement(give, _ERRNO | _ENOSYS)]  # clone3: libc then tries clone
    program += [statement(give, _ERRNO | _EPERM)]
    return b"".join(program)


def shut_calls(machine: str) -> None:
    """Let through nothing but what a single thread needs to compute: no sockets, processes, threads or privileges."""
    code = ctypes.create_string_buffer(_filter(machine, os.getpid()))
    program = struct.pack("@HxxxxxxP", (len(code) - 1) // 8, ctypes.addressof(code))
    _checked(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0), "seccomp")


def shut_limits(limits: dict[str, int]) -> None:
    """Bound processor time and memory; no file may grow, no core be written."""
    _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "the death signal")
    _checked(_LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")
    _checked(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    cpu_s, memory_bytes = limits["cpu_s"], limits["memory_bytes"]
    for kind, most in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(kind, (most, most))


def _graded(job: dict) -> dict:  # type: ignore[type-arg]  # JSON
    """Run the code and return its outcome; whatever it raises is the grader's own fault."""
    names: dict = {"__name__": "grader"}  # type: ignore[type-arg]  # a module's namespace
    try:
        exec(compile(job["source"], "grader.py", "exec"), names)  # noqa: S102 - what all of this is for
        reward = names["grade"](job["sample"], job["item"])
        if isinstance(reward, bool | int | float) and math.isfinite(reward):
            return {"reward": float(reward)}
        return {"error": f"grade() returned {type(reward).__name__}, not a finite number"}
    except MemoryError:
        return {"error": "MemoryError: the grader used more memory than it may"}
    except BaseException as error:  # noqa: BLE001 - SystemExit too
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "grader.py"]
        where = f" (line {lines[-1]} of the source)" if lines else ""
        return {"error": f"{type(error).__name__}: {str(error)[:500]}{where}"}


def main() -> None:
    """Read the job, shut the doors, run, and write the outcome."""
    job = json.load(sys.stdin)
    out = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
    try:
        sys.path[:] = job["path"]
        for name in job["imports"]:
            __import__(name)
        for name in job["parts"]:
            with suppress(Exception):  # what is wrong with it is raised again where the code itself imports it
                __import__(name)
        os.environ.clear()
        shut_limits(job["limits"])
        shut_files([*job["readable"], *imported(job["packages"])], listable=job["listable"])
        shut_calls(job["machine"])
    except (JailError, ImportError, OSError, ValueError) as error:
        outcome = {"refused": f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else str(error)}
    else:
        os.write(out, b"\n")  # the code's own time begins
        outcome = _graded(job)
    os.write(out, json.dumps(outcome).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
