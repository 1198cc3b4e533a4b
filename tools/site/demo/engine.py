"""The engine of the demo, onnxruntime-web: fetched from the npm registry once, then kept.

In: nothing. Out: two files in ``.engine/``, which git ignores. The package is fetched by ``npm
pack`` and checked against the hash that the registry has published for this version. ``npm
install`` would unpack 140 MB of other backends, and what those depend on; the page needs the two
files that compute on one core of any browser.

    python -m tools.site.demo.engine
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from grpo_helpers.command_line import SUCCESS, run_command
from grpo_helpers.files import InputError, project_root

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
# As `npm view onnxruntime-web@1.30.0 dist.integrity` prints it.
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8p"
    "ZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
FOLDER = project_root() / ".engine" / f"onnxruntime-web-{VERSION}"


def is_fetched() -> bool:
    """Return whether the engine is there."""
    return all((FOLDER / name).is_file() for name in FILES)


def engine_files() -> dict[str, bytes]:
    """Return the files of the engine, by name.

    The line that names a source map is left out: the map is not there.
    """
    files = {name: (FOLDER / name).read_bytes() for name in FILES}
    script, _, _ = files[FILES[0]].partition(b"\n//# sourceMappingURL=")
    return files | {FILES[0]: script + b"\n"}


def fetch() -> None:
    """Fetch the engine from the npm registry, unless it is there.

    Raises:
        InputError: There is no npm, the registry cannot be reached, or it has sent something else.
    """
    if is_fetched():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("the demo needs npm, which is not installed; see nodejs.org")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()}")
        (archive,) = folder.glob("*.tgz")
        unpack(archive)


def unpack(archive: Path) -> None:
    """Put the engine's files into their folder.

    Args:
        archive: The package as the registry sends it.

    Raises:
        InputError: It is not the package whose hash is known.
    """
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise InputError(f"{archive.name} is not the {PACKAGE} that was published: fetch it again")

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as package:
        for name in FILES:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None, name  # the hash says that it is there
            unfinished = FOLDER / f"{name}.part"
            unfinished.write_bytes(member.read())
            unfinished.replace(FOLDER / name)


def main() -> int:
    """Fetch the engine; return the exit code."""

    def body() -> int:
        fetch()
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
