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
