#!/usr/bin/env bash
# Pillow 13.0.0: a grey TIFF whose PhotometricInterpretation is 0 (white is zero: film scanners, fax, X-ray) is turned
# round on reading with 8 bits, so that large numbers are bright as everywhere else. With 16 bits it is not: the same
# picture comes out as a negative, in a mode (I;16) that does not tell.
# Expected: both depths read alike, or both left as stored.
# Seen: 8 bits, stored 55 (light grey) -> 200; 16 bits, stored 55 * 257 -> 55 * 257.
# What Renorm does: it reads the tag and turns 16-bit pictures round itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0 numpy
seen=$("$folder/venv/bin/python" - <<'P'
import io
import struct

import numpy as np
from PIL import Image


def grey_tiff(pixels: np.ndarray, photometric: int) -> bytes:
    """One uncompressed strip behind a directory of nine tags."""
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height,
            279: pixels.nbytes}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + pixels.nbytes) + pixels.tobytes() + directory


for dtype, scale in ((np.uint8, 1), (np.dtype("<u2"), 257)):
    stored = np.full((4, 4), 55 * scale, dtype)
    read = [int(np.asarray(Image.open(io.BytesIO(grey_tiff(stored, tag))))[0, 0]) // scale for tag in (1, 0)]
    print(stored.itemsize * 8, "bits: black is zero", read[0], "white is zero", read[1])
P
)
echo "$seen"
diff <(echo "$seen") - <<'E2'
8 bits: black is zero 55 white is zero 200
16 bits: black is zero 55 white is zero 55
E2
echo "as found"
