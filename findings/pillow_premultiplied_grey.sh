#!/usr/bin/env bash
# Pillow 13.0.0: a grey TIFF with associated alpha (ExtraSamples 1, the premultiplied kind) opens in mode La, and
# Image.convert takes La to LA alone. To anything else, L and RGB among them, it raises "conversion from La to L not
# supported", whatever mode was asked for, although premultiplied colours (RGBa) convert to all of them.
# Expected: La converts to L and RGB as RGBa does.
# Seen: RGBa -> RGB, L and 1 answer; La -> RGB, L and 1 raise ValueError; La -> LA -> RGB is fine.
# What Renorm does: it converts such pictures to LA first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0
seen=$("$folder/venv/bin/python" - <<'P'
import io
import struct

from PIL import Image

pixels = bytes((100, 128)) * 4  # 2 x 2 of grey and alpha, in one uncompressed strip behind a directory of ten tags
tags = {256: 2, 257: 2, 258: 8 | 8 << 16, 259: 1, 262: 1, 273: 8, 277: 2, 278: 2, 279: len(pixels), 338: 1}
entries = [struct.pack("<HHII", tag, 3, 2 if tag == 258 else 1, value) for tag, value in tags.items()]
directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
grey = Image.open(io.BytesIO(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory))
colour = Image.new("RGBA", (2, 2), (200, 200, 200, 128)).convert("RGBa")
for picture, straight in ((colour, "RGBA"), (grey, "LA")):
    for mode in (straight, "RGB", "L", "1"):
        try:
            picture.convert(mode)
            print(picture.mode, "->", mode, "answered")
        except ValueError as error:
            print(picture.mode, "->", mode, error)
print("La -> LA -> RGB", grey.convert("LA").convert("RGB").mode)
P
)
echo "$seen"
diff <(echo "$seen") - <<'E2'
RGBa -> RGBA answered
RGBa -> RGB answered
RGBa -> L answered
RGBa -> 1 answered
La -> LA answered
La -> RGB conversion from La to L not supported
La -> L conversion from La to L not supported
La -> 1 conversion from La to L not supported
La -> LA -> RGB RGB
E2
echo "as found"
