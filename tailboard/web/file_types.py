"""The media type of a job's file, by the end of its name. A fixed table: that of the system differs
between machines.

Browsers run none of these types as a script or a style sheet: what a job writes must not be used by
another site's page (<script src>), which could read it so. JavaScript and CSS are plain text."""

from __future__ import annotations

from typing import NamedTuple

UNKNOWN_TYPE = "application/octet-stream"
TEXT_NAMES = """
    bash bat c cc cfg cmake conf cpp cs css cts cxx diff dockerfile env erl ex exs fish gitignore go
    gradle graphql h hpp hs ini ipynb java jl js jsonl jsx kt less lock log lua m4 make makefile
    mjs ml mts ndjson nix out patch php pl properties proto ps1 py pyi r rb readme rs rst sass
    scala scss sh sql swift tap tex tf toml trace ts tsv tsx txt vue xml xsd xsl yaml yml zig zsh
"""
TEXT_TYPES = {
    **dict.fromkeys(TEXT_NAMES.split(), "text/plain"),
    "csv": "text/csv",
    "htm": "text/html",
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "svg": "image/svg+xml",
}
SHOWN_TYPES = {  # other types that browsers show
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}
SAVED_TYPES = {
    "7z": "application/x-7z-compressed",
    "bz2": "application/x-bzip2",
    "gz": "application/gzip",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "pdf": "application/pdf",  # browsers show none within the sandbox of files
    "tar": "application/x-tar",
    "tgz": "application/gzip",
    "wav": "audio/wav",
    "webm": "video/webm",
    "whl": "application/zip",
    "xz": "application/x-xz",
    "zip": "application/zip",
    "zst": "application/zstd",
}


class FileType(NamedTuple):
    """What a response with a file says about it."""

    content_type: str  # of the header
    is_shown: bool  # False: browsers save it
    is_markdown: bool = False


def type_of(name: bytes) -> FileType:
    """The type of a file with this name."""
    ending = name.rpartition(b".")[2].lower().decode(errors="replace")
    if kind := TEXT_TYPES.get(ending):
        return FileType(f"{kind}; charset=utf-8", True, kind == "text/markdown")
    if kind := SHOWN_TYPES.get(ending):
        return FileType(kind, True)
    return FileType(SAVED_TYPES.get(ending, UNKNOWN_TYPE), False)
