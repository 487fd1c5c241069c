"""Machine code on disk, so that a program is compiled once.

An entry is a file named by its key: a header (magic, key, length, SHA-256 of the rest), then the
object code and what running it takes (outline.py), nothing else.  What does not match its header
byte for byte, was made under another key (another program, size, processor or version) or belongs
to another user is not an entry: the caller compiles again and the file is replaced.  Files appear
whole, by a rename, so any number of processes may share the folder.  A folder that cannot be read
or written means no cache, no error.

`CHAINRULE_CACHE` names another folder; `CHAINRULE_CACHE=off` uses none.  A checksum finds damage,
not malice: whoever can write to the folder can run code, as with any program in a home folder, so
the folder is made for its owner only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from chainrule.native import host

LIMIT_BYTES = 256 * 2**20  # the least recently used entries go when the folder outgrows this

_MAGIC = b"chainrule\x00\x00\x01"  # the last byte is the format's version
_HEADER = struct.Struct(f"<{len(_MAGIC)}s32sQ32s")
_SUFFIX, _UNFINISHED = ".native", ".unfinished"
_ABANDONED_SECONDS = 3600.0  # a temporary file this old belongs to no living writer


def key(*parts: str) -> bytes:
    """The key of what these parts say (program, sizes, dtype), made here and now.

    The processor, its features, the versions and this compiler's own source text count too.
    """
    described = host.host()
    digest = hashlib.sha256()
    for part in (*parts, described.cpu, described.features, *_makers()):
        text = part.encode("utf-8")
        digest.update(len(text).to_bytes(8, "little") + text)  # ("ab", "c") is not ("a", "bc")
    return digest.digest()


def load(entry_key: bytes) -> bytes | None:
    """The code stored under a key, or None: never stored, evicted, damaged, foreign."""
    path = _path(entry_key)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            data = file.read(LIMIT_BYTES + 1)
    except OSError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, stored_key, length, checksum = _HEADER.unpack_from(data)
    code = data[_HEADER.size :]
    genuine = (
        magic == _MAGIC
        and stored_key == entry_key
        and length == len(code)
        and checksum == hashlib.sha256(code).digest()
    )
    if not genuine:
        return None
    with suppress(OSError):
        os.utime(path)  # used just now: the last to be evicted
    return code


def store(entry_key: bytes, blob: bytes) -> None:
    """Keep code under a key, if that can be done; at once visible to every process."""
    path = _path(entry_key)
    if path is None:
        return
    header = _HEADER.pack(_MAGIC, entry_key, len(blob), hashlib.sha256(blob).digest())
    if len(header) + len(blob) > LIMIT_BYTES:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=_UNFINISHED, dir=path.parent)  # readable by us only
    except OSError:
        return
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header)
            file.write(blob)
        unfinished.replace(path)
    except OSError:
        return
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    _evict(path)


def folder() -> Path | None:
    """The folder of the entries, None where the cache is off; it need not exist yet."""
    chosen = os.environ.get("CHAINRULE_CACHE", "").strip()
    if chosen.lower() in ("off", "0"):
        return None
    if chosen:
        return Path(chosen).expanduser()
    try:
        return _users_folder() / "chainrule"
    except RuntimeError:  # no home folder
        return None


def _users_folder() -> Path:
    """Where the platform keeps what can be made again."""
    system = platform.system()
    if system == "Darwin":
        return Path.home() / "Library" / "Caches"
    variable, default = (
        ("LOCALAPPDATA", "AppData/Local") if system == "Windows" else ("XDG_CACHE_HOME", ".cache")
    )
    given = os.environ.get(variable, "")
    return Path(given) if os.path.isabs(given) else Path.home() / default


def _path(entry_key: bytes) -> Path | None:
    where = folder()
    return None if where is None else where / (entry_key.hex() + _SUFFIX)


def _is_ours(status: os.stat_result) -> bool:
    """Whether the file belongs to this user; where there are no user numbers, it does."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _evict(newest: Path) -> None:
    """Delete the least recently used entries over the limit, and what dead writers left."""
    now = time.time()
    entries = []
    for path, status in _files(newest.parent):
        if path.suffix == _SUFFIX:
            entries.append((status.st_mtime, status.st_size, path))
        elif path.suffix == _UNFINISHED and now - status.st_mtime > _ABANDONED_SECONDS:
            with suppress(OSError):
                path.unlink()
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT_BYTES:
            break
        if path == newest:
            continue
        with suppress(OSError):
            path.unlink()
        total -= size


def _files(where: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        names = os.listdir(where)
    except OSError:
        return
    for name in names:
        with suppress(OSError):  # another process may delete it meanwhile
            path = where / name
            yield path, path.stat()


@lru_cache(maxsize=1)
def _makers() -> tuple[str, ...]:
    """The versions that make the code, and a digest of the compiler's source text."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        with suppress(OSError):
            digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    version = ".".join(map(str, llvm.llvm_version_info))
    return digest.hexdigest(), llvmlite.__version__, version, host.target().triple
