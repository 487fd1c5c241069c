"""Tensors in .npz files: read with checks that name the mistake, written all or nothing."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FileMistake",
    "check_target",
    "load_array",
    "load_arrays",
    "save_arrays",
    "stored_names",
]


class FileMistake(ValueError):
    """A file that cannot be read or written, or does not hold what is needed."""


def load_arrays(path: str, names: Iterable[str]) -> dict[str, Any]:
    """Read the named arrays from an .npz file; whatever else it holds is left alone."""
    try:
        file = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileMistake(f"cannot read {path}: {_reason(error)}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileMistake(_not_npz(path)) from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise FileMistake(
            f"{path} holds one array without a name; save arrays by name: np.savez('x.npz', x=...)"
        )
    with file:
        # A program may say d_t for δt, and so may a file.
        stored = {("δ" + name[2:] if name[:2] == "d_" else name): name for name in file.files}
        wanted = list(names)
        missing = [name for name in wanted if name not in stored]
        if missing:
            raise FileMistake(
                f"{path} lacks {', '.join(missing)}; it holds {', '.join(file.files) or 'nothing'}"
            )
        return {name: _member(path, file, stored[name]) for name in wanted}


def load_array(path: str) -> NDArray[Any]:
    """Read the one array of an .npy file, or of an .npz file that holds only one."""
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileMistake(f"cannot read {path}: {_reason(error)}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileMistake(
            f"{path} is no array that NumPy can read; save it with np.save('mine.npy', array)"
        ) from error
    if isinstance(found, np.lib.npyio.NpzFile):
        with found:
            if len(found.files) != 1:
                raise FileMistake(f"{path} holds {len(found.files)} arrays; give a file with one")
            return _member(path, found, found.files[0])
    return _real(path, "the array", np.asarray(found))


def stored_names(path: str) -> list[str]:
    """The names of the arrays in an .npz file that `load_arrays` has read from, as δt for d_t."""
    with np.load(path, allow_pickle=False) as file:
        return ["δ" + name[2:] if name[:2] == "d_" else name for name in file.files]


def _member(path: str, file: Any, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asarray(file[name])
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FileMistake(f"{path}: array {name} cannot be read: {error}") from error
    return _real(path, f"array {name}", array)


def _real(path: str, what: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise FileMistake(
            f"{path}: {what} has type {array.dtype}; tensors are real numbers or integers"
        )
    return array


def check_target(path: str) -> None:
    """Raise FileMistake where `save_arrays` could not write, before a long computation."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise FileMistake(f"cannot write {path}: it is a directory")
    if target.exists() and not target.is_file():
        raise FileMistake(f"cannot write {path}: it is not a plain file")
    if not target.parent.is_dir():
        raise FileMistake(f"cannot write {path}: there is no directory {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise FileMistake(f"cannot write {path}: the directory {target.parent} is not writable")


def save_arrays(path: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz file beside its target and move it into place: never half a file."""
    check_target(path)
    target = os.path.realpath(path)  # a link stays a link: what it points to is replaced
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=os.path.dirname(target))
        with os.fdopen(handle, "wb") as stream:
            # np.savez takes names as keywords, so that a tensor called `file` would break it.
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except OSError as error:
        raise FileMistake(f"cannot write {path}: {_reason(error)}") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _mode(target: str) -> int:
    """Return the permissions of the file that is replaced, or those any new file would get."""
    if os.path.exists(target):
        return stat.S_IMODE(os.stat(target).st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _not_npz(path: str) -> str:
    return f"{path} is not an .npz file; write one with np.savez('x.npz', name=array, ...)"
