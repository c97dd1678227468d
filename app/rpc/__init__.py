"""The gRPC door: the Open Inference Protocol's service, beside the HTTP application and over the same engine."""
