"""What children of a packed process allocate lies together; what a bot on trial leaves behind is nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="page tables are read from /proc")


def _run(script: str, *arguments: str) -> dict[str, int]:
    """What a script prints, as JSON: in a process of its own, without threads, whose memory stays as it made it."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


_SCATTERED = """
    import json, os, sys
    from botproc import packing, prefault

    SIZES = (8, 40, 150, 400, 900, 3000)  # bytes of content: small blocks, and larger ones of the heap
    kept = [bytes(size) for _ in range(4000) for size in SIZES]
    holes = kept[::20]  # one in twenty is given back: a hole on nearly every page
    del kept[::20], holes
    if sys.argv[1] == "packed":
        packing.pack()
    areas = list(prefault._writable())
    before = prefault._entries("self", areas)

    def copied(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            new = [bytes(size) for _ in range(count) for size in SIZES]
            after = prefault._entries("self", areas)
            os.write(write, b"%d" % len(list(prefault._written(areas, before, after))))
            os._exit(0)
        os.waitpid(child, 0)
        return int(os.read(read, 20))

    print(json.dumps({"for 600 objects": copied(100) - copied(0)}))
"""


def test_a_child_of_a_packed_process_copies_few_pages_for_what_it_allocates() -> None:
    scattered, packed = (_run(_SCATTERED, how)["for 600 objects"] for how in ("as it is", "packed"))
    assert scattered > 100
    assert packed < scattered / 4, f"{packed} pages were copied, {scattered} without"


_TRIED = """
    import json, os, sys
    from pathlib import Path
    from botproc import preload
    from botproc.trial import trial
    from protocol.locks import FileLock, LockHeld
    from protocol.process import children_of

    preload.Preload((), ()).load()
    found = {}
    with trial(Path(sys.argv[1])) as pid:
        found["its own session"] = os.getsid(pid) == pid
        found["three processes"] = len(children_of(os.getpid())) == 3
        (lock,) = Path(sys.argv[1]).glob("trial-*/bot.lock")
        try:
            with FileLock(lock):
                found["its lock is held"] = False
        except LockHeld:
            found["its lock is held"] = True
        found["it said something"] = (lock.parent / "bot.log").stat().st_size > 0
    found["no process is left"] = children_of(os.getpid()) == []
    found["no file is left"] = list(Path(sys.argv[1]).iterdir()) == []
    print(json.dumps(found))
"""


def test_a_bot_on_trial_comes_up_like_any_other_and_leaves_nothing(tmp_path: Path) -> None:
    assert all(_run(_TRIED, str(tmp_path)).values())


_DEAF = """
    import json, os, sys, time
    from pathlib import Path
    from botproc import preload, trial
    from protocol.process import children_of

    preload.Preload((), ()).load()
    def welcome(message, beat):  # nobody does: it is ignored, or the other side fails over it
        if sys.argv[2] == "fails":
            raise ValueError
        return []

    trial._LONGEST = {"fails": 10, "is ignored": 1}[sys.argv[2]]
    trial.answers = welcome
    files = len(os.listdir("/proc/self/fd"))
    began = time.monotonic()
    try:
        with trial.trial(Path(sys.argv[1])):
            raise SystemExit("it came up")
    except OSError:
        pass
    left = [*children_of(os.getpid()), *Path(sys.argv[1]).iterdir()]
    found = {"bounded": time.monotonic() - began < 5, "nothing is left": left == []}
    found["no descriptor is left"] = len(os.listdir("/proc/self/fd")) == files
    print(json.dumps(found))
"""


@pytest.mark.parametrize("what", ["is ignored", "fails"])
def test_a_trial_that_does_not_come_up_ends_in_time_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    found = _run(_DEAF, str(tmp_path), what)
    assert all(found.values()), found


_CACHED = """
    import json, os, sys
    from botproc import preload, prefault
    from botproc.rehearsal import rehearse

    preload.Preload((), ()).load()
    preload.play(rehearse)
    preload.freeze()
    areas = list(prefault._writable())
    before = prefault._entries("self", areas)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        rehearse()
        used = set(prefault._written(areas, before, prefault._entries("self", areas)))
        sys._clear_type_cache()  # as if each place of the cache were taken by another name, as happens with time
        more = set(prefault._written(areas, before, prefault._entries("self", areas))) - used
        os.write(write, b"%d" % len(more))
        os._exit(0)
    os.waitpid(child, 0)
    print(json.dumps({"pages": int(os.read(read, 20))}))
"""


def test_what_a_bot_forgets_of_the_attributes_that_imports_looked_up_copies_few_pages() -> None:
    assert _run(_CACHED)["pages"] < 200  # 480 where the imports' names are still in the interpreter's cache


_FOREIGN = """
    import json, resource
    from botproc import packing

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packing.pack()
    print(json.dumps({"megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024}))
"""


def test_nothing_is_taken_where_objects_come_from_another_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    assert _run(_FOREIGN)["megabytes"] < 20


_HUGE = """
    import json, os, re, sys
    from pathlib import Path
    from botproc.collapse import collapse

    def kilobytes(name):
        return int(re.search(name + r": +([0-9]+)", Path("/proc/self/smaps_rollup").read_text("utf-8"))[1])

    kept = [bytearray(400) for _ in range(50_000)]
    collapse()
    huge = kilobytes("AnonHugePages")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        before = kilobytes("Private_Dirty")
        for one in kept[::500]:
            one[0] = 1
        os.write(write, b"%d" % (kilobytes("Private_Dirty") - before))
        os._exit(0)
    os.waitpid(child, 0)
    found = {"huge": huge, "copied": int(os.read(read, 20)), "changed": sum(one[0] for one in kept)}
    print(json.dumps(found))
"""


def test_a_child_copies_small_pages_of_huge_ones() -> None:
    found = _run(_HUGE)
    if not found["huge"]:
        pytest.skip("this kernel makes no huge pages when it is asked to (Linux 6.1 and later)")
    assert found["huge"] >= 8192
    assert found["changed"] == 0
    assert 100 * 4 <= found["copied"] < 1500  # a hundred objects, 4 KB each, and what else a child touches


_ARENAS = """
    import json, sys, threading
    from pathlib import Path
    from botproc.packing import one_arena

    if sys.argv[1] == "one":
        one_arena()
    met = threading.Barrier(5)
    kept = []

    def work():
        met.wait()
        kept.append([bytes(5000) for _ in range(100)])
        met.wait()
        met.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    met.wait()
    met.wait()
    spans = [line.split()[:2] for line in Path("/proc/self/maps").read_text("utf-8").splitlines()]
    own = [span for span, rights in spans if rights == "rw-p" and int(span.split("-")[0], 16) % (64 << 20) == 0]
    met.wait()
    print(json.dumps({"arenas": len(own)}))
"""


def test_threads_share_one_heap() -> None:
    if not _run(_ARENAS, "as it is")["arenas"]:
        pytest.skip("this C library gives threads no heaps of their own")
    assert _run(_ARENAS, "one")["arenas"] == 0
