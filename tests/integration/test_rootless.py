"""The network lab without root: the same tests, inside a user namespace."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.netlab import INSIDE, REQUIRE_ALL, ROOTLESS, require, require_tools

ROOT = Path(__file__).parents[2]
# A firewall, a capture of the wire, and BIND on port 53: what usually takes root.
SUBSET = "test_dropped or families_that_differ or lets_through or rejects_in_its_own_name or tshark_reads_the_bind"
AS_NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--")


def run_subset(folder: Path, *before: str, rootless: str) -> str:
    """Run the subset in a lab of its own; pytest's last line."""
    environment = {name: value for name, value in os.environ.items() if name not in (INSIDE, ROOTLESS)}
    environment |= {REQUIRE_ALL: "1", ROOTLESS: rootless, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}
    tests = [str(ROOT / "tests" / "integration" / name) for name in ("test_firewall.py", "test_rpc_peers.py")]
    lab = [sys.executable, str(ROOT / "tests" / "netlab.py")]
    # Nothing may be skipped in there, or the run proves nothing.
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tmp'}"]
    done = subprocess.run(
        [*before, *lab, *pytest_, "-k", SUBSET, *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_lab_works_without_root(tmp_path: Path) -> None:
    require_tools("unshare", "ip", "nft", "named", "tshark")
    before = AS_NOBODY if nobody_could() else ()
    require_user_namespaces(*before)
    if not before:
        last = run_subset(tmp_path, rootless="1")
    else:
        # Nobody can't enter pytest's own folder.
        folder = Path(tempfile.mkdtemp(prefix="netlab-nobody-"))
        try:
            shutil.chown(folder, "nobody")
            last = run_subset(folder, *before, rootless="")
        finally:
            shutil.rmtree(folder)
    assert " passed" in last
    assert "skipped" not in last


def nobody_could() -> bool:
    """Whether this is root, and nobody can read this checkout and its Python; else a user namespace has to do."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    code = "import pytest, kmsdiag, tests.netlab"
    command = [*AS_NOBODY, "unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def require_user_namespaces(*before: str) -> None:
    """Skip or fail where the system does not let this user have a user namespace."""
    command = [*before, "unshare", "--user", "--map-root-user", "--net", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"no user namespaces: {done.stderr.strip()[-100:]}")
