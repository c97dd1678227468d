"""The gRPC door: the service of the Open Inference Protocol, on the same engine as the HTTP application."""
