"""The gRPC door: the Open Inference Protocol's service, beside the HTTP application on the same engine."""
