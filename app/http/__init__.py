"""The HTTP doors: routes, middleware, parsing of requests and encoding of responses."""
