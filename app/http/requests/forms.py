"""Multipart forms: files and fields, under limits, and only if the form came whole."""

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

LONGEST_FIELD = 65536
"""Bytes of a field that is not a file."""

MOST_FIELDS = 32
"""Fields that are not files: more than there are known ones, so that too many are told apart from unknown ones."""

_HINT = "send parts named 'files', as curl does with -F files=@image.jpg"


class _WholeForm(MultiPartParser):
    """Starlette's parser, except that a form that was cut off is not taken for one with fewer parts."""

    # Never to disk: the body is limited, and what it holds is needed in memory at once.
    spool_max_size = sys.maxsize
    whole = False

    def on_end(self) -> None:
        """The closing boundary was read."""
        self.whole = True

    async def parse(self) -> FormData:
        """The form; the caller closes its files. Where this raises, they are closed already."""
        async with aclosing(self._until_whole(self.stream)) as self.stream:
            return await super().parse()

    async def _until_whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        # When the parser asks for more, it has worked through what it got.
        async for chunk in stream:
            yield chunk
        if not self.whole:
            raise MultiPartException("it is cut off before its closing boundary")


async def read_form(request: Request, settings: Settings) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The bytes of the files and the fields of a multipart body, each in the order they were sent.

    Raises:
        FieldError: the form is malformed, or a file is where a field belongs, or the other way round.
        TooLargeError: too many files or fields, or too long a field.
    """
    async with aclosing(request.stream()) as stream:
        parser = _WholeForm(
            request.headers, stream, max_files=settings.max_images, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD
        )
        try:
            form = await parser.parse()
        # UnicodeError: a charset such as 'undefined' in the Content-Type, which Python knows but cannot decode.
        except (MultiPartException, UnicodeError) as error:
            raise _refusal(str(getattr(error, "message", error)), settings) from error
    try:
        files, fields = _sorted(form.multi_items())
        # Read one by one, each beside what the parser has gathered of it.
        account_of(request.scope).take(sum(file.size or 0 for file in files))
        return [await file.read() for file in files], fields
    finally:
        await form.close()


def _sorted(items: list[tuple[str, UploadFile | str]]) -> tuple[list[UploadFile], list[tuple[str, str]]]:
    files: list[UploadFile] = []
    fields: list[tuple[str, str]] = []
    for name, value in items:
        if isinstance(value, UploadFile):
            if name != "files":
                raise FieldError(f"a file is in the part {name[:50]!r}", hint=_HINT, location=name[:50])
            files.append(value)
        elif name == "files":
            raise FieldError("the part 'files' is text, not a file: it has no filename", hint=_HINT, location="files")
        else:
            fields.append((name, value))
    return files, fields


def _refusal(said: str, settings: Settings) -> FieldError | TooLargeError:
    if said.startswith("Too many files"):
        check_count(settings.max_images + 1, settings.max_images, "files")
    if said.startswith(("Too many", "Part exceeded")):
        return TooLargeError(
            "the form has too many fields or too long a one",
            hint=f"at most {MOST_FIELDS} fields of {LONGEST_FIELD} bytes are read; {_HINT}",
            location="body",
        )
    return FieldError(f"the form is malformed: {said}", hint=_HINT, location="body")
