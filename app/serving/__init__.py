"""From a request to its prediction: decoding, batching, forwards and streams. `app.engine` alone imports it."""
