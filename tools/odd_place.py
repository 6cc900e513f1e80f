"""Run the tests where nothing is as developers have it, all at once.

    python tools/odd_place.py                           # the fast tests
    python tools/odd_place.py tests/test_jobs.py -x     # anything that pytest takes

The package is a wheel, unpacked; there is no source beside the tests, and no git. Every path, that of temporary files
too, has spaces and letters beyond ASCII. The network is cut, but for the machine's own address. The user is one who has
no home and cannot make one. Tests run on several processes, in random order: ODD_SEED=N repeats an order.

Linux alone. Root becomes the user nobody, who has to be able to reach the Python that runs this; anybody else stays
who they are, and needs a system that allows user namespaces.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {"unshare": "util-linux", "setpriv": "util-linux", "ip": "iproute2", "git": "git"}
FAST = ["--numprocesses", "2", "-m", "not slow", "--ignore", "tests/browser"]


def main() -> None:
    """Set the place up, run pytest in it, remove it; exits as pytest does."""
    if missing := [f"{name} (of {package})" for name, package in NEEDED.items() if shutil.which(name) is None]:
        sys.exit(f"there is no {', no '.join(missing)}: install it first; this needs Linux")
    seed = os.environ.get("ODD_SEED") or str(random.randrange(10**6))
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="odd-") as made:
        Path(made).chmod(0o755)
        place = Path(made) / "Ordner für Tests"
        set_up(place)
        begin = [*as_a_stranger(), "env", "-i", *surroundings(place, seed), sys.executable]
        check(begin, place)
        words = ["-m", "pytest", "-p", "shuffled", "-p", "no:cacheprovider", *(sys.argv[1:] or ["-q", *FAST])]
        code = subprocess.run([*begin, *words], cwd=place, check=False).returncode
    print(f"the order was that of ODD_SEED={seed}")
    sys.exit(code)


def set_up(place: Path) -> None:
    """All tracked files as they are now but the source, which is a wheel, unpacked in `site`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name, follow_symlinks=False)
    built = place / "tmp"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(build, cwd=place, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(place / "site")
    wheel.unlink()
    shutil.rmtree(place / "src")
    shutil.copy2(ROOT / "tools" / "shuffled.py", place / "site")
    if os.geteuid() == 0:
        for path in (place, built):  # pytest and Hypothesis write beside the tests
            os.chown(path, stranger().pw_uid, stranger().pw_gid)
    shared = ROOT.parent / "shared"  # clips that some tests look for beside the checkout
    if shared.is_dir():
        (place.parent / "shared").symlink_to(shared)


def stranger() -> pwd.struct_passwd:
    """The user that root becomes."""
    return pwd.getpwnam("nobody")


def as_a_stranger() -> list[str]:
    """What starts a command without network and without root's rights."""
    with_loopback = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if os.geteuid() == 0:
        user = [f"--reuid={stranger().pw_uid}", f"--regid={stranger().pw_gid}", "--clear-groups"]
        return ["unshare", "--net", "--", *with_loopback, "setpriv", *user]
    same = [f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
    return ["unshare", "--map-root-user", "--net", "--", *with_loopback, "unshare", "--user", *same, "--"]


def surroundings(place: Path, seed: str) -> list[str]:
    """The variables that the tests see, and no others."""
    return [
        f"PATH={Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        f"PYTHONPATH={place / 'site'}",
        f"TMPDIR={place / 'tmp'}",
        f"ODD_SEED={seed}",
        "HOME=/nonexistent",
        "LANG=C.UTF-8",
    ]


def check(begin: list[str], place: Path) -> None:
    """Stop where the stranger cannot be made, or does not get the wheel."""
    words = [*begin, "-c", "import layerlift; print(layerlift.__file__)"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or "no reason given").splitlines()[-1]
        sys.exit(f"another user without network cannot run {sys.executable} here ({why}): can everybody reach it?")
    if place / "site" not in Path(done.stdout.strip()).parents:
        sys.exit(f"the tests would not get the wheel, but {done.stdout.strip()}")


if __name__ == "__main__":
    main()
