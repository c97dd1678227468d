#!/usr/bin/env bash
# Pillow 13.0.0: a TIFF that holds one picture and a smaller copy of it (NewSubfileType 1, the overview of GeoTIFFs and
# slide scanners) counts as an image of two frames and as animated. The tag that tells a copy or a mask from a page is
# there, but nothing reads it.
# Expected: n_frames counts pages; a reduced copy or a mask of a page is none.
# Seen: n_frames 2, is_animated True, and the second frame has NewSubfileType 1.
# What Renorm does: it asks each directory for the tag before it takes a file for one of several pages.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0
seen=$("$folder/venv/bin/python" - <<'P'
import io

from PIL import Image, TiffImagePlugin

picture, file = Image.linear_gradient("L"), io.BytesIO()
with TiffImagePlugin.AppendingTiffWriter(file, True) as writer:
    for page, kind in ((picture, 0), (picture.resize((64, 64)), 1)):
        page.save(writer, "TIFF", tiffinfo={254: kind})
        writer.newFrame()
image = Image.open(file)
image.seek(1)
print("frames", image.n_frames, "animated", image.is_animated, "kind of the second", image.tag_v2[254])
P
)
echo "$seen"
[ "$seen" = "frames 2 animated True kind of the second 1" ]
echo "as found"
