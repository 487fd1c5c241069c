"""The disk cache: what was stored comes back, and nothing else ever does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.native import cache

CODE = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    where = tmp_path / "cache"
    monkeypatch.setenv("CHAINRULE_CACHE", str(where))
    return where


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_an_entry_comes_back_and_other_keys_find_nothing(folder: Path) -> None:
    key = cache.key("x[i] = o[i]", "o[5]", "float32")
    assert cache.load(key) is None
    cache.store(key, CODE)
    assert cache.load(key) == CODE
    assert cache.load(cache.key("x[i] = o[i]", "o[6]", "float32")) is None


def test_the_key_separates_its_parts_and_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.key("ab", "c") != cache.key("a", "bc") != cache.key("abc")
    assert cache.key("a") == cache.key("a")
    here = cache.key("a")
    monkeypatch.setenv("CHAINRULE_CPU", "x86-64")
    if cache.host.target().triple.startswith("x86_64"):
        assert cache.key("a") != here


def test_every_truncation_is_refused(folder: Path) -> None:
    key = cache.key("p")
    cache.store(key, CODE[:300])
    whole = only_file(folder).read_bytes()
    for length in range(len(whole)):
        only_file(folder).write_bytes(whole[:length])
        assert cache.load(key) is None, length
    only_file(folder).write_bytes(whole + b"\0")
    assert cache.load(key) is None


def test_every_altered_byte_is_refused(folder: Path) -> None:
    key = cache.key("p")
    cache.store(key, CODE[:300])
    path = only_file(folder)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        assert cache.load(key) is None, position
    cache.store(key, CODE)  # what a caller does then
    assert cache.load(key) == CODE


def test_an_entry_under_anothers_name_is_refused(folder: Path) -> None:
    mine, other = cache.key("mine"), cache.key("other")
    cache.store(other, CODE)
    only_file(folder).rename(folder / (mine.hex() + ".native"))
    assert cache.load(mine) is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no user numbers")
def test_another_users_entry_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache.key("p")
    cache.store(key, CODE)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert cache.load(key) is None


def test_an_unusable_folder_is_no_cache_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    for name in (str(blocked), str(blocked / "below"), "off"):
        monkeypatch.setenv("CHAINRULE_CACHE", name)
        cache.store(cache.key("p"), CODE)
        assert cache.load(cache.key("p")) is None
    assert blocked.read_text() == "in the way"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind"
)
def test_a_read_only_folder_is_read(folder: Path) -> None:
    key = cache.key("p")
    cache.store(key, CODE)
    folder.chmod(0o500)
    try:
        cache.store(cache.key("q"), CODE)
        assert cache.load(cache.key("q")) is None
        assert cache.load(key) == CODE
    finally:
        folder.chmod(0o700)


def test_a_full_disk_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    cache.store(cache.key("p"), CODE)
    assert list(folder.iterdir()) == []


def test_the_least_recently_used_entries_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3 * len(CODE))  # with headers, two entries fit
    keys = [cache.key(str(k)) for k in range(3)]
    for age, key in zip((300, 200), keys, strict=False):
        cache.store(key, CODE)
        path = folder / (key.hex() + ".native")
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    assert cache.load(keys[0]) == CODE  # the older one, but used just now
    cache.store(keys[2], CODE)
    assert [cache.load(k) is not None for k in keys] == [True, False, True]
    cache.store(cache.key("too large"), CODE * 4)
    assert cache.load(cache.key("too large")) is None


def test_what_a_dead_writer_left_is_cleared(folder: Path) -> None:
    folder.mkdir()
    old, fresh = folder / "old.unfinished", folder / "fresh.unfinished"
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    fresh.write_bytes(b"half")
    cache.store(cache.key("p"), CODE)
    assert not old.exists()
    assert fresh.exists()


WORKER = """
import hashlib, sys
from chainrule.native import cache
cache.LIMIT_BYTES = 200_000  # so that writers also evict under each other's hands
seen = 0
for turn in range(150):
    name = str(turn // 2 % 7)  # twice in a row: the second finds it, whoever else evicts
    code = hashlib.sha256(name.encode()).digest() * (500 + 200 * int(name))
    key = cache.key(name)
    found = cache.load(key)
    assert found is None or found == code, "a torn or foreign entry was returned"
    seen += found is not None
    cache.store(key, code)
print(seen)
"""


def test_processes_share_the_folder(folder: Path) -> None:
    source = str(Path(cache.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environment, stdout=-1, stderr=-1, text=True
        )
        for _ in range(4)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
        assert int(out) > 0
    assert not list(folder.glob("*.unfinished"))


def test_the_file_says_what_it_is(folder: Path) -> None:
    cache.store(cache.key("p"), CODE)
    data = only_file(folder).read_bytes()
    assert data.startswith(b"chainrule\0")
    assert data.endswith(CODE)
    assert hashlib.sha256(CODE).digest() in data[: -len(CODE)]
    if os.name == "posix":
        assert only_file(folder).stat().st_mode & 0o077 == 0
