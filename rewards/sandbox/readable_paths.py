"""The files a jailed process may read: the standard library without any installed package, and shared libraries."""

import os
import sysconfig
from collections.abc import Iterator

_PACKAGES = ("site-packages", "dist-packages")
"""Installed packages may hold what a program must not see (a benchmark's tests, say), and lie inside the standard library's folder."""
_LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_LIBRARIES = (
    "ld- libc. libm. libdl. libpthread. librt. libutil. libgcc_s. libstdc++. libpython libffi. libz. libbz2. liblzma. libzstd. libexpat. "
    "libmpdec. libssl. libcrypto. libsqlite3. libuuid. libreadline. libtinfo libncurses libpanel libcrypt. libnsl. libtirpc. libgdbm libdb-"
)
"""What the standard library's extension modules link to. Not every library of the machine: the kernel copies the rules at every fork."""
_SINGLE_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")


def readable_paths() -> list[str]:
    """Files and folders, deduplicated; those that do not exist may be among them."""
    return list(dict.fromkeys([*_standard_library(), *_shared_libraries(), *_SINGLE_FILES]))


def _standard_library() -> Iterator[str]:
    for folder in dict.fromkeys(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")):
        if os.path.isdir(folder):
            yield from (os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name not in _PACKAGES)


def _shared_libraries() -> Iterator[str]:
    known = tuple(_LIBRARIES.split())
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = [*_LIBRARY_FOLDERS, *(os.path.join(folder, multiarch) for folder in _LIBRARY_FOLDERS[:3] if multiarch)]
    folders.append(sysconfig.get_config_var("LIBDIR") or "")
    for folder in {os.path.realpath(folder) for folder in folders if os.path.isdir(folder)}:
        for entry in os.scandir(folder):
            if ".so" in entry.name and entry.name.startswith(known) and entry.is_file():
                yield entry.path
