#!/usr/bin/env bash
# Pillow 13.0.0: an uncompressed RGB TIFF with 16 bits a sample is read rightly where the samples of a pixel lie side by
# side (PlanarConfiguration 1), and wrongly where each colour is a plane of its own (2, as microscopes and some scanners
# write): each byte is taken for a sample, so that columns repeat and colours are noise. Nothing is raised.
# Expected: the same picture from both.
# Seen: first two pixels (0, 3, 7) and (11, 15, 19) from the first, (0, 232, 208) and (0, 3, 7) from the second.
# What Renorm does: it refuses such files, or reads their planes itself.
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


def colour_tiff(pixels: np.ndarray, planar: int) -> bytes:
    """One strip, or one a colour, behind a directory of ten tags."""
    height, width, colours = pixels.shape
    strips = [pixels] if planar == 1 else [pixels[:, :, i] for i in range(colours)]
    body = b"".join(strip.tobytes() for strip in strips)
    size, start = len(body) // len(strips), 8 + 2 + 10 * 12 + 4
    bits, places, sizes = start, start + 6, start + 6 + 4 * len(strips)
    first = sizes + 4 * len(strips)
    tables = struct.pack("<3H", 16, 16, 16)
    tables += struct.pack(f"<{len(strips)}I", *(first + i * size for i in range(len(strips))))
    tables += struct.pack(f"<{len(strips)}I", *[size] * len(strips))
    alone = len(strips) == 1
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, len(strips), first if alone else places), (277, 3, 1, 3), (278, 3, 1, height),
            (279, 4, len(strips), size if alone else sizes), (284, 3, 1, planar)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + tables + body


ramp = (np.arange(48, dtype="<u2") * 1000).reshape(4, 4, 3)
for planar in (1, 2):
    print(planar, np.asarray(Image.open(io.BytesIO(colour_tiff(ramp, planar))))[0, :2].tolist())
P
)
echo "$seen"
diff <(echo "$seen") - <<'E2'
1 [[0, 3, 7], [11, 15, 19]]
2 [[0, 232, 208], [0, 3, 7]]
E2
echo "as found"
