"""Kinds of files that are mistaken for weights, recognized by their first bytes, never by their names."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

from app.errors import ModelError

HEAD = 512
_SAFE = slice(5, 9)
"""A safetensors file begins with the length of its header, eight bytes of which three are zero, and the header."""

_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")
"""A number that files of torch.save begin with that are no zip archives, as pickle writes it."""

EXPORT = "export the network's tensors: torch.save(network.state_dict(), FILE), or safetensors"
_COPY = "copy or download it again"
_UNPACK = "unpack it and name the file inside"
_REBUILD = f"it holds a program, not a network to adapt; {EXPORT}"

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it with: git lfs pull"),
    (0, b"\x89HDF", "HDF5 (Keras, or MATLAB)", EXPORT),
    (4, b"TFL3", "a TensorFlow Lite model", EXPORT),
    (0, b"GGUF", "a GGUF model", EXPORT),
    (0, b"ggml", "a GGML model", EXPORT),
    (0, b"\x93NUMPY", "a NumPy array", EXPORT),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x89PNG", "a picture", "check the path given with --weights"),
    (0, b"\xff\xd8\xff", "a picture", "check the path given with --weights"),
    (0, b"%PDF", "a PDF document", "check the path given with --weights"),
    (0, b"\x7fELF", "a compiled library", _REBUILD),
)
"""Offset, bytes, kind of file, and hint."""


class WrongKindError(ModelError):
    """A file that is no weights file; its kind is known."""


def check_kind(path: Path) -> bytes:
    """Return the first bytes of a file that may hold weights.

    Raises:
        ModelError: there is no such file, it cannot be read, or it is of a known kind that holds no weights.
    """
    if path.is_dir():
        files = sorted(entry.name for entry in path.iterdir() if entry.is_file())[:5]
        inside = f"name a file in it: {', '.join(files)}" if files else "name a file"
        raise WrongKindError(f"the weights {path} are a folder", hint=inside)
    if not path.is_file():
        raise WrongKindError(f"the weights file {path} does not exist", hint="check the path given with --weights")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        hint = "check its permissions"
        raise WrongKindError(f"the weights {path} cannot be read: {error.strerror or error}", hint=hint) from error
    if is_safetensors(head):
        return head
    kind = _zip_kind(path) if head.startswith(b"PK\x03\x04") else _plain_kind(head, path)
    if kind is not None:
        raise WrongKindError(f"the weights {path} are {kind[0]}", hint=kind[1])
    return head


def is_safetensors(head: bytes) -> bool:
    """Tell whether a file that begins with ``head`` is safetensors."""
    return head[_SAFE] == b"\0\0\0{"


def _plain_kind(head: bytes, path: Path) -> tuple[str, str] | None:
    if not head:
        return "an empty file", _COPY
    if not head.strip(b"\0"):
        return "damaged: they begin with nothing but zeros", _COPY
    for offset, magic, kind, hint in _MAGIC:
        if head[offset:].startswith(magic):
            return kind, hint
    if head[:1] == b"\x80":
        return None if head[2:].startswith(_LEGACY) else ("a pickle that torch.save did not write", EXPORT)
    if _is_onnx(head, path):
        return "an ONNX model", _REBUILD
    return _text_kind(head)


def _is_onnx(head: bytes, path: Path) -> bool:
    # Protocol buffers have no magic: field 1 is the version of the format, then comes the producer's name, or the
    # domain, the graph or the operator sets.
    is_message = head[0] == 8 and len(head) > 2 and head[1] < 64 and head[2] in {0x12, 0x1A, 0x22, 0x3A, 0x42}
    return is_message or path.suffix.lower() == ".onnx"


def _text_kind(head: bytes) -> tuple[str, str] | None:
    try:
        # Not the last time: the end of the head may be in the middle of a letter.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=False).lstrip().lower()
    except UnicodeDecodeError:
        return None
    if text.startswith(("<!doctype html", "<html", "<head", "<?xml", "<!--")):
        return "a web page or XML, not what it links to", f"{_COPY}, from the address of the file itself"
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return None
    if '"weight_map"' in text:
        return "an index of weights in several files", "put its tensors into one file"
    return "a text file", "check the path given with --weights"


def _zip_kind(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "damaged or cut short", _COPY
    files = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in files or any(name.startswith("code/") for name in files):
        return "a TorchScript archive", _REBUILD
    if any("exported_program" in name or name.startswith(("models/", "data/aotinductor/")) for name in files):
        return "an exported program (torch.export)", _REBUILD
    if any(name.endswith("data.pkl") for name in names):
        return None
    if all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays", EXPORT
    return "a zip archive that torch.save did not write", _UNPACK
