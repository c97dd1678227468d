"""Multipart forms: files and fields, under limits; a truncated form is refused."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import FieldError, TooLargeError
from app.http.middleware.body_limit import account_of
from app.http.requests.base64_images import check_count
from app.settings import Settings

MAX_FIELD_BYTES = 65536
"""Bytes of a field that is not a file."""

MAX_FIELDS = 32
"""Fields that are not files: more than there are, so that an unknown field is reported as such."""

_HINT = "send parts named 'files', as curl does with -F files=@image.jpg"


class _CompleteForm(MultiPartParser):
    """Starlette's parser, which takes a truncated form for one with fewer parts, except that this refuses it."""

    # Never to disk: the body is limited, and what it holds is needed in memory at once.
    spool_max_size = sys.maxsize
    is_complete = False

    def on_end(self) -> None:
        """The closing boundary was read."""
        self.is_complete = True

    async def parse(self) -> FormData:
        """Parse the form; the caller closes its files. Where this raises, they are closed already."""
        async with aclosing(self._until_complete(self.stream)) as self.stream:
            return await super().parse()

    async def _until_complete(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        # When the parser asks for a chunk, it has parsed the previous one.
        async for chunk in stream:
            yield chunk
        if not self.is_complete:
            raise MultiPartException("it is cut off before its closing boundary")


async def read_form(request: Request, settings: Settings) -> tuple[list[bytes], list[tuple[str, str]]]:
    """Return the bytes of the files, and the fields, of a multipart body, each in the order they were sent.

    Raises:
        FieldError: the form is malformed, or a part is a file that should be a field, or a field that should be a file.
        TooLargeError: too many files or fields, or too long a field.
    """
    async with aclosing(request.stream()) as stream:
        parser = _CompleteForm(
            request.headers, stream, max_files=settings.max_images, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
        )
        try:
            form = await parser.parse()
        # UnicodeError: a charset such as 'undefined' in the Content-Type, which Python knows but cannot decode.
        except (MultiPartException, UnicodeError) as error:
            raise _refusal(str(getattr(error, "message", error)), settings) from error
    try:
        files, fields = _split_items(form.multi_items())
        # Read one by one, each beside what the parser has gathered of it.
        account_of(request.scope).take(sum(file.size or 0 for file in files))
        return [await file.read() for file in files], fields
    finally:
        await form.close()


def _split_items(items: list[tuple[str, UploadFile | str]]) -> tuple[list[UploadFile], list[tuple[str, str]]]:
    files: list[UploadFile] = []
    fields: list[tuple[str, str]] = []
    for name, value in items:
        if isinstance(value, UploadFile):
            if name != "files":
                raise FieldError(f"the part {name[:50]!r} must not be a file", hint=_HINT, location=name[:50])
            files.append(value)
        elif name == "files":
            raise FieldError("the part 'files' is not a file: it has no filename", hint=_HINT, location="files")
        else:
            fields.append((name, value))
    return files, fields


def _refusal(message: str, settings: Settings) -> FieldError | TooLargeError:
    if message.startswith("Too many files"):
        check_count(settings.max_images + 1, settings.max_images, "files")
    if message.startswith(("Too many", "Part exceeded")):
        return TooLargeError(
            "the form has too many fields, or a field that is too long",
            hint=f"at most {MAX_FIELDS} fields of {MAX_FIELD_BYTES} bytes are accepted; {_HINT}",
            location="body",
        )
    return FieldError(f"the form is malformed: {message}", hint=_HINT, location="body")
