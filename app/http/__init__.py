"""The HTTP doors: routes, middleware, and how requests are read and answers written."""
