#!/usr/bin/env bash
# uvicorn 0.54.0 with httptools 0.9.0: a POST whose client offers HTTP/2 beside HTTP/1.1 arrives without its body.
#
# `Connection: Upgrade` with `Upgrade: h2c` is an offer (RFC 9110, 7.8), as `curl --http2` makes it on a plain connection:
# a server that does not take it up answers in HTTP/1.1, to the request as it was sent. With httptools uvicorn does so,
# warns of an unsupported upgrade, and hands the application an empty body; what was sent is thrown away. With h11 the
# same request arrives whole.
#
# What Renorm does: it goes on with the body, see app/http/connections/connection.py.
# Seen:  httptools: plain 5 bytes, with the offer 0 bytes
#        h11: plain 5 bytes, with the offer 5 bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0
cat >"$folder/try.py" <<'PYTHON'
import asyncio
import logging

import uvicorn

logging.disable()


async def application(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


async def count(port, offer):
    """How many bytes of the body the application got."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: here\r\n" + offer + b"Content-Length: 5\r\n\r\nhello")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = await reader.readexactly(1)
    writer.close()
    return int(length)


async def main():
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    for http in ("httptools", "h11"):
        config = uvicorn.Config(application, port=0, http=http, ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        plain, offered = await count(port, b""), await count(port, offer)
        print(f"{http}: plain {plain} bytes, with the offer {offered} bytes")
        server.should_exit = True
        await serving


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/try.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
httptools: plain 5 bytes, with the offer 0 bytes
h11: plain 5 bytes, with the offer 5 bytes
SEEN
echo "still so"
